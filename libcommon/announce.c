/* announce.c - the heartbeat; looked at twice a second, sent when there is something to say. */
#include "announce.h"
#include "bus.h"
#include "log.h"
#include "service.h"

enum { LOOK_MS = 500, BEAT_MS = 30000, PATIENCE_MS = 5000 };

static int status_now(struct service *s)
{
	const char *what;
	bool up;

	for (size_t i = 0; (what = service_dependency(s, i, &up)) != NULL; i++)
		if (!up)
			return SERVICE_ERROR;
	return SERVICE_ACTIVE;
}

static void say(struct announce *a, int status)
{
	struct registry reg = *a->what;
	struct envelope env = { .kind = ENV_REGISTRY, .source = reg.name };
	int r;

	reg.instance = a->s->base.instance;
	reg.status = status;
	reg.heartbeat_at_ms = clock_unix_ms();
	r = envelope_send(a->bus, "waddle.registry", reg.name, &env, &reg, NULL, NULL);
	if (r != 0) {
		log_rarely(60000, L_WARN, NULL, "registry_not_sent", "cannot announce ourselves (%d)", r);
		return;
	}
	a->status = status;
	a->sent_mono_ms = clock_mono_ms();
}

static void look(void *arg)
{
	struct announce *a = arg;
	int64_t now = clock_mono_ms();
	int status = status_now(a->s);

	if (a->status == -1 ? status == SERVICE_ACTIVE || now - a->started_mono_ms >= PATIENCE_MS :
	                      status != a->status || now - a->sent_mono_ms >= BEAT_MS)
		say(a, status);
	timer_start(a->s, &a->timer, LOOK_MS, look, a);
}

void announce_start(struct announce *a, struct service *s, struct bus *bus, const struct registry *what)
{
	*a = (struct announce){
		.s = s, .bus = bus, .what = what, .started_mono_ms = clock_mono_ms(), .status = -1
	};
	timer_start(s, &a->timer, 0, look, a);
}

void announce_pause(struct announce *a)
{
	timer_stop(&a->timer);
}

void announce_stop(struct announce *a)
{
	if (a->s == NULL)
		return;
	timer_stop(&a->timer);
	if (a->status != -1)
		say(a, SERVICE_INACTIVE);
	a->s = NULL;
}
