/* settings.c - see settings.h. */
#define BANNED_EXCEPT_GETENV
#include "settings.h"

int settings_database_url(const char **ret, struct err *err)
{
	const char *url = getenv("DATABASE_URL");

	if (url == NULL || *url == '\0')
		return err_set(err, -EINVAL, "DATABASE_URL is not set (postgresql://user@host/database)");
	*ret = url;
	return 0;
}

const char *settings_schema_dir(void)
{
	const char *dir = getenv("WADDLE_SCHEMA_DIR");

	return dir != NULL && *dir != '\0' ? dir : NULL;
}
