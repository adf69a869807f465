/* replies_sql.h - the statements of replies.c: what goes in, what comes out. */
#ifndef REPLIES_SQL_H
#define REPLIES_SQL_H

/* A response is looked for where its command says it was created and within its first minute
 * (THERE); any other, and one not found there, everywhere and with its session (ALL); what is still
 * not found is explained (WHY). */
enum reply_pass { PASS_THERE, PASS_ALL, PASS_WHY, REPLY_PASSES };

enum reply_column {     /* of the arrays; $1 is column 0 */
	IN_I, IN_EXECUTION, IN_INDEX, IN_MODULE, IN_SUCCESS, IN_FINAL, IN_ACTION, IN_DATA, IN_CHAT, IN_ERROR,
	IN_TIME, IN_PRIVATE, IN_SESSION, IN_SETTLES, IN_WHOLE, IN_AT, REPLY_COLUMNS,
	/* and two plain ones: the highest position of the batch or NULL, SESSION_TTL in ms */
	IN_LSN = REPLY_COLUMNS, IN_TTL, REPLY_PARAMS
};
enum {                  /* of replies_store_sql; rows in the order of i, those that were found */
	OUT_I, OUT_ADDRESS, OUT_PLATFORM, OUT_SERVER, OUT_CHANNEL, OUT_USER, OUT_REPLY_REF, OUT_MESSAGE,
	OUT_COMMUNITY, OUT_KEY, OUT_EVENT, OUT_TRACE, OUT_CREATED, OUT_LATE, OUT_COMMAND, OUT_OVERLAY,
	OUT_NEW, OUT_TOLD,      /* OUT_NEW: rows stored by the whole statement; OUT_TOLD: for NOTIFY */
	OUT_TYPE, OUT_CONFIG,   /* of failures without a text: message type, entities.config for notices */
	OUT_NEXT                /* module of the link behind it in its chain, or NULL */
};
extern const char *const replies_store_sql[PASS_WHY];

/* i, execution, session; SESSION_TTL in ms.  Gives i, the module or NULL, has it a session, does it
 * live, is it of the execution's entity. */
enum { WHY_I, WHY_MODULE, WHY_KNOWN, WHY_LIVES, WHY_OURS };
extern const char replies_why_sql[];

/* The arrays, with the time of the execution as IN_AT.  Gives i, id, is the stored one the same. */
enum { SAME_I, SAME_ID, SAME_SAME };
extern const char replies_same_sql[];

#endif
