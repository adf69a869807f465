/* bench_rules.c - one 500-character message against 10,000 rules of one entity (500 of them
 * expressions), beside the same against 10: the size of the set must hardly show.
 *      build/release/bench/bench_rules
 * Also: p99 in microseconds, and how long compiling takes (router.md 14: 1 ms, 1 s). */
#include "../services/router/rules.h"
#include "err.h"
#include "lib.h"

enum { TEXTS = 64, SECONDS = 2, SAMPLES = 20000 };

static struct rules_scan *scan;
static char texts[TEXTS][501];

static struct rules_set *make(size_t n)
{
	static const char *const words[] = { "free",  "cheap", "viewers", "followers",
		                             "promo", "click", "http",    "win" };
	struct arena *mem = arena_new(1 << 20, 64 << 20);
	struct rule *r = arena_alloc(mem, n * sizeof r[0]);

	for (size_t i = 0; i < n; i++) {
		r[i] = (struct rule){ .id = (int64_t)i + 1, .priority = 100, .exempt = -1 };
		r[i].match = i % 20 == 0 ? RULE_REGEX :
		             i % 10 == 5 ? RULE_WORD :
		             i % 10 == 7 ? RULE_EXACT :
		                           RULE_CONTAINS;
		r[i].normalize = i % 4 == 1;
		r[i].string = r[i].match == RULE_REGEX ?
		                      arena_printf(mem, "\\b%s[a-z]*\\s+(deal|offer)%zu\\d{2,4}",
		                                   words[i / 20 % 8], i) :
		                      arena_printf(mem, "%s%zu.example", words[i % 8], i);
	}
	struct rules_set *s = rules_compile(r, n, mem);

	rules_scan_fit(scan, s);
	return s;
}

static void fill_texts(void)
{
	static const char *const say[] = { "that", "was", "a", "great", "move", "free", "the", "viewers", "who", "plays",
					   "next", "click", "lol", "gg", "why", "win" };
	uint64_t dice = 88172645463325252u;

	for (int t = 0; t < TEXTS; t++)
		for (size_t n = 0; n < 500;) {
			const char *w = say[dice % ARRAY_LEN(say)];

			dice ^= dice << 13;
			dice ^= dice >> 7;
			dice ^= dice << 17;
			while (*w != '\0' && n < 500)
				texts[t][n++] = *w++;
			if (n < 500)
				texts[t][n++] = ' ';
		}
}

static void look(void *arg)
{
	static unsigned i;

	rules_scan_text(scan, (struct str){ texts[i++ % TEXTS], 500 });
	if (rules_find(scan, arg, (struct rules_who){ 5, RULES_ANY_ACTION }) != NULL)
		i++;
}

int main(void)
{
	struct err err = { 0 };
	struct rules_set *few, *many;
	double at = bench_now_s(), compile_ms, per_s, floor, *took = XNEW_N(double, SAMPLES);
	int status;

	scan = rules_scan_new(&err);
	if (scan == NULL) {
		fprintf(stderr, "bench_rules: %s\n", err.text);
		return 1;
	}
	fill_texts();
	few = make(10);
	at = bench_now_s();
	many = make(10000);
	compile_ms = (bench_now_s() - at) * 1e3;
	floor = bench_rate(look, few, SECONDS);
	per_s = bench_rate(look, many, SECONDS);
	for (int i = 0; i < SAMPLES; i++) {
		at = bench_now_s();
		look(many);
		took[i] = (bench_now_s() - at) * 1e6;
	}

	const struct bench_extra extra[] = {
		{ "p99_us", bench_percentile(took, SAMPLES, 99), NULL },
		{ "compile_ms", compile_ms, NULL },
		{ "set_mib", (double)rules_set_bytes(many) / 1048576, NULL },
		{ "cost_ratio", floor / per_s, NULL },
	};

	status = bench_report("rules", per_s, floor, "messages/s", extra, ARRAY_LEN(extra));
	free(took);
	rules_set_free(few);
	rules_set_free(many);
	rules_scan_free(scan);
	return status;
}
