/* bench_db.c - rows per second through batch, small transactions per second through db, each
 * against a bare libpq loop over poll(2) that sends the same statements, prepared and pipelined, on
 * as many connections.  Both take turns, so that a disturbance hits both; medians count.
 *      build/release/bench/bench_db [seconds per round, default 2]
 * Needs the environment of the integration tests (a private PostgreSQL, fsync on). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "batch.h"
#include "clock.h"
#include "err.h"
#include "lib.h"
#include "service.h"
#include "stack.h"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/resource.h>

enum { ROUNDS = 5, ROWS = 512, CONNS_MAX = 16 };

#define ROWS_SQL "INSERT INTO rows (id, word, at, event, body) SELECT * FROM" \
	" unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::uuid[], $5::jsonb[]) ON CONFLICT DO NOTHING"
#define INBOX_SQL "INSERT INTO inbox (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"
#define EFFECT_SQL "INSERT INTO effects (inbox, community, word) VALUES ($1, $2, $3)"

static const char body[] = "{\"kind\": \"command\", \"text\": \"!memories add quote hello there\", \"user\": \"141981764\"}";

static struct stack st;
static int64_t next_id = 1;
static double seconds = 2;

static void say_word(char *to, size_t n, int64_t id)
{
	snprintf(to, n, "viewer %lld says hello to everyone here", (long long)id);
}

static void say_uuid(char to[37], int64_t id)
{
	snprintf(to, 37, "%08llx-1111-5222-8333-%012llx", (unsigned long long)id & 0xffffffff, (unsigned long long)id);
}

/* -- the floor ----------------------------------------------------------------------------- */

struct bare {
	PGconn *pg[CONNS_MAX];
	int n;
	int64_t done;
};

static void check(PGconn *pg, PGresult *res)
{
	ExecStatusType s = PQresultStatus(res);

	if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK && s != PGRES_PIPELINE_SYNC) {
		fprintf(stderr, "bench: %s\n", PQerrorMessage(pg));
		exit(1);
	}
	PQclear(res);
}

static void bare_open(struct bare *b, int n)
{
	static const char *const sql[][2] = {
		{ "rows", ROWS_SQL }, { "b", "BEGIN" }, { "c", "COMMIT" }, { "i", INBOX_SQL }, { "e", EFFECT_SQL },
		{ "l", "SELECT pg_current_wal_insert_lsn()" },
	};

	*b = (struct bare){ .n = n };
	for (int i = 0; i < n; i++) {
		b->pg[i] = PQconnectdb(st.url);
		for (size_t k = 0; k < ARRAY_LEN(sql); k++)
			check(b->pg[i], PQprepare(b->pg[i], sql[k][0], sql[k][1], 0, NULL));
		PQsetnonblocking(b->pg[i], 1);
		PQenterPipelineMode(b->pg[i]);
	}
}

static void bare_close(struct bare *b)
{
	for (int i = 0; i < b->n; i++)
		PQfinish(b->pg[i]);
}

/* Sends the next on every connection whose last one came back, for this long. */
static double bare_run(struct bare *b, void (*send)(PGconn *pg), double units)
{
	struct pollfd fds[CONNS_MAX];
	double start = bench_now_s(), end = start + seconds;
	int64_t done = 0;
	int busy = 0;

	for (int i = 0; i < b->n; i++, busy++)
		send(b->pg[i]);
	while (busy > 0) {
		for (int i = 0; i < b->n; i++) {
			short events = POLLIN;

			if (PQflush(b->pg[i]) == 1)
				events |= POLLOUT;
			fds[i] = (struct pollfd){ .fd = PQsocket(b->pg[i]), .events = events };
		}
		poll(fds, (nfds_t)b->n, 1000);
		for (int i = 0; i < b->n; i++) {
			PGconn *pg = b->pg[i];
			bool synced = false;

			if ((fds[i].revents & POLLIN) == 0)
				continue;
			PQconsumeInput(pg);
			while (!synced && !PQisBusy(pg)) {
				PGresult *res = PQgetResult(pg);

				synced = res != NULL && PQresultStatus(res) == PGRES_PIPELINE_SYNC;
				if (res != NULL)
					check(pg, res);
			}
			if (!synced)
				continue;
			done++;
			if (bench_now_s() < end)
				send(pg);
			else
				busy--;
		}
	}
	return (double)done * units / (bench_now_s() - start);
}

/* Array literals, as one writes them by hand. */
static void send_rows(PGconn *pg)
{
	static char text[5][ROWS * 256];
	const char *value[5] = { text[0], text[1], text[2], text[3], text[4] };
	size_t n[5] = { 0 };
	char word[80], event[37];

	for (int i = 0; i < ROWS; i++) {
		int64_t id = next_id++;
		char sep = i == 0 ? '{' : ',';

		say_word(word, sizeof(word), id);
		say_uuid(event, id);
		n[0] += (size_t)snprintf(text[0] + n[0], 200, "%c%lld", sep, (long long)id);
		n[1] += (size_t)snprintf(text[1] + n[1], 200, "%c\"%s\"", sep, word);
		n[2] += (size_t)snprintf(text[2] + n[2], 200, "%c\"2026-01-01 00:00:00.%03d+00\"", sep, (int)(id % 1000));
		n[3] += (size_t)snprintf(text[3] + n[3], 200, "%c%s", sep, event);
		text[4][n[4]++] = sep;
		text[4][n[4]++] = '"';
		for (const char *p = body; *p != '\0'; p++) {
			if (*p == '"')
				text[4][n[4]++] = '\\';
			text[4][n[4]++] = *p;
		}
		text[4][n[4]++] = '"';
	}
	for (int c = 0; c < 5; c++) {
		text[c][n[c]++] = '}';
		text[c][n[c]] = '\0';
	}
	PQsendQueryPrepared(pg, "rows", 5, value, NULL, NULL, 0);
	PQpipelineSync(pg);
}

static void send_tx(PGconn *pg)
{
	char id[24], word[80];
	const char *value[3] = { id, "7", word };

	snprintf(id, sizeof(id), "%lld", (long long)next_id);
	say_word(word, sizeof(word), next_id++);
	PQsendQueryPrepared(pg, "b", 0, NULL, NULL, NULL, 0);
	PQsendQueryPrepared(pg, "i", 1, value, NULL, NULL, 0);
	PQsendQueryPrepared(pg, "e", 3, value, NULL, NULL, 0);
	PQsendQueryPrepared(pg, "c", 0, NULL, NULL, NULL, 0);
	PQsendQueryPrepared(pg, "l", 0, NULL, NULL, NULL, 0);
	PQpipelineSync(pg);
}

/* -- ours ---------------------------------------------------------------------------------- */

struct ours {
	struct service s;
	struct db *db;
	struct batch *batch;
	int64_t done, failed, out;
	double end;
};

static struct ours ours;

static void add_rows(void *arg);

static void row_done(void *arg, const struct db_result *res, int result_row, const struct err *err)
{
	struct ours *o = arg;

	(void)res, (void)result_row;
	o->done++;
	o->out--;
	o->failed += err != NULL;
	if (o->out == 2 * ROWS)
		service_later(&o->s, add_rows, o);
}

static void add_rows(void *arg)
{
	struct ours *o = arg;
	char word[80], event[37];

	while (bench_now_s() < o->end) {
		struct db_param row[5] = { DB_INT(next_id), DB_STR(((struct str){ word, 0 })),
			DB_TIME(1767225600000 + next_id % 1000), DB_STR(((struct str){ event, 36 })), DB_STR(STR_NONE) };

		say_word(word, sizeof(word), next_id);
		say_uuid(event, next_id);
		row[1].s.n = strlen(word);
		row[4].s = (struct str){ body, sizeof(body) - 1 };
		if (batch_add(o->batch, row, row_done, o) != 0)
			return;
		next_id++;
		o->out++;
	}
}

static void start_tx(struct ours *o);

static void tx_done(void *arg, const struct db_result *res, const struct err *err)
{
	struct ours *o = arg;

	o->done++;
	o->out--;
	o->failed += err != NULL || db_lsn(res) == 0;
	if (bench_now_s() < o->end)
		start_tx(o);
}

static void start_tx(struct ours *o)
{
	struct db_tx *tx = db_tx_begin(o->db, 0);
	char word[80];
	int r;

	if (tx == NULL)
		exit(1);
	say_word(word, sizeof(word), next_id);
	r = db_tx_query(tx, NULL, NULL, INBOX_SQL, DB_INT(next_id));
	r |= db_tx_query(tx, NULL, NULL, EFFECT_SQL, DB_INT(next_id), DB_INT(7), DB_STR(str_of(word)));
	if (r != 0)
		exit(1);
	next_id++;
	db_tx_commit(tx, tx_done, o);
	o->out++;
}

static bool all_back(void *arg)
{
	const struct ours *o = arg;

	return o->out == 0 && bench_now_s() >= o->end;
}

static bool has_answered(void *arg)
{
	return ((const struct ours *)arg)->out == 0;
}

static void ours_open(int conns)
{
	struct db_conf conf = { .write_url = str_of(st.url), .write_conns = conns, .read_conns = 1, .timeout_ms = 30000 };

	ours = (struct ours){ .s = { .name = "bench" } };
	service_init(&ours.s);
	ours.db = db_open(&ours.s, &conf);
	for (int i = 0; i < 200; i++)           /* every connection up, everything prepared */
		start_tx(&ours);
	if (!service_run(&ours.s, has_answered, &ours, 30000) || ours.failed > 0)
		exit(1);
}

static double ours_end(double start)
{
	if (!service_run(&ours.s, all_back, &ours, 60000) || ours.failed > 0) {
		fprintf(stderr, "bench: %lld failed\n", (long long)ours.failed);
		exit(1);
	}
	return (double)ours.done / (bench_now_s() - start);
}

static double ours_rows(void)
{
	static const struct batch_spec spec = { .name = "rows", .sql = ROWS_SQL, .columns = 5, .max_rows = ROWS,
		.max_in_flight = 2, .key_column = -1 };
	double start = bench_now_s(), rate;

	ours.batch = batch_open(&ours.s, ours.db, &spec);
	ours.done = 0;
	ours.end = start + seconds;
	add_rows(&ours);
	rate = ours_end(start);
	batch_close(ours.batch);
	return rate;
}

static double ours_txs(int at_once)
{
	double start = bench_now_s();

	ours.done = 0;
	ours.end = start + seconds;
	for (int i = 0; i < at_once; i++)
		start_tx(&ours);
	return ours_end(start);
}

static void ours_close(void)
{
	db_close(ours.db);
	service_clear(&ours.s);
}

static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int measure(const char *name, const char *unit, int conns, bool rows)
{
	double value[ROUNDS], floor[ROUNDS], cpu[ROUNDS], floor_cpu[ROUNDS], from;
	struct bench_extra extra[3];
	struct bare bare;
	int64_t first;

	ours_open(conns);
	bare_open(&bare, conns);
	for (int i = 0; i < ROUNDS; i++) {
		sql_run(st.sql, "TRUNCATE rows, inbox, effects");
		sql_run(st.sql, "CHECKPOINT");
		first = next_id;
		from = cpu_us();
		floor[i] = bare_run(&bare, rows ? send_rows : send_tx, rows ? ROWS : 1);
		floor_cpu[i] = (cpu_us() - from) / (double)(next_id - first);
		sql_run(st.sql, "TRUNCATE rows, inbox, effects");
		sql_run(st.sql, "CHECKPOINT");
		first = next_id;
		from = cpu_us();
		value[i] = rows ? ours_rows() : ours_txs(conns);
		cpu[i] = (cpu_us() - from) / (double)(next_id - first);
	}
	bare_close(&bare);
	ours_close();
	extra[0] = (struct bench_extra){ "connections", conns, NULL };
	extra[1] = (struct bench_extra){ "client_cpu_us", bench_median(cpu, ROUNDS), NULL };
	extra[2] = (struct bench_extra){ "floor_client_cpu_us", bench_median(floor_cpu, ROUNDS), NULL };
	return bench_report(name, bench_median(value, ROUNDS), bench_median(floor, ROUNDS), unit, extra, ARRAY_LEN(extra));
}

int main(int argc, char **argv)
{
	int r = 0;

	if (argc > 1)
		seconds = strtod(argv[1], NULL);
	stack_open(&st, "bench_db", STACK_DATABASE);
	sql_run(st.sql, "CREATE TABLE rows (id bigint PRIMARY KEY, word text NOT NULL, at timestamptz NOT NULL,"
	        " event uuid NOT NULL UNIQUE, body jsonb NOT NULL)");
	sql_run(st.sql, "CREATE TABLE inbox (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())");
	sql_run(st.sql, "CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
	        " inbox bigint NOT NULL, community bigint NOT NULL, word text NOT NULL)");
	r |= measure("db-batch", "rows/s", 2, true);
	r |= measure("db-tx-1", "transactions/s", 1, false);
	r |= measure("db-tx-8", "transactions/s", 8, false);
	r |= measure("db-tx-16", "transactions/s", 16, false);
	stack_close(&st);
	return r;
}
