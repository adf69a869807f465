/* settings.c - see settings.h. */
#include "settings.h"

static struct own {
	struct str schema_dir;
} own;

static const struct cfg_var own_vars[] = {
	CFG(struct own, schema_dir, "WADDLE_SCHEMA_DIR", CFG_STR, "",
	    "Folder of the schema files; empty: those built into the tool."),
	{ 0 }
};

static struct cfg_base base;
static bool loaded;

static int load(struct err *err)
{
	const struct cfg_part parts[] = { { cfg_base_vars, &base }, { own_vars, &own } };
	struct buf complaints = BUF(64 * 1024);
	int r = 0;

	if (!loaded)
		r = cfg_load_all(parts, ARRAY_LEN(parts), NULL, &complaints, err);
	loaded = r == 0;
	buf_clear(&complaints);
	return r;
}

int settings_read(const struct cfg_base **ret, struct err *err)
{
	int r = load(err);

	if (r == 0)
		*ret = &base;
	return r;
}

int settings_schema_dir(const char **ret, struct err *err)
{
	int r = load(err);

	if (r == 0)
		*ret = own.schema_dir.n > 0 ? own.schema_dir.p : NULL;
	return r;
}

void settings_forget(void)
{
	if (!loaded)
		return;
	cfg_clear(cfg_base_vars, &base);
	cfg_clear(own_vars, &own);
	loaded = false;
}
