# shellcheck shell=bash
# redis.sh - a Redis of the stack's own, without persistence: what it holds is a cache.

redis_answers() {
	local answer
	answer=$(
		exec 2>/dev/null
		timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1; printf "PING\r\n" >&3; read -r a <&3 && printf "%s" "$a"' \
			- "$(state_get port-redis)"
	) || true
	[ "${answer%$'\r'}" = +PONG ] && return 0
	proc_gone redis && return 2
	return 1
}

redis_start() {
	local try
	proc_pid redis >/dev/null && return 0
	command -v redis-server >/dev/null || die "no redis-server; run tools/dev/install"
	for try in 1 2 3; do
		spawn redis redis-server --bind 127.0.0.1 --port "$(port_of redis)" --dir "$dir/log" --save '' \
			--appendonly no --daemonize no --maxmemory 64mb --maxmemory-policy allkeys-lru
		wait_for 20 "Redis to answer" redis_answers && return 0
		show_log redis
		grep -qs 'Address already in use' "$dir/log/redis.log" || return 1
		say "its port was taken meanwhile, attempt $try of 3"
		rm -f "$dir/state/port-redis"
	done
	return 1
}
redis_up() {
	step "Redis"
	if proc_pid redis >/dev/null; then
		step_done "already running, port $(state_get port-redis)"
	else
		redis_start || die "Redis did not start"
		step_done "ready on port $(state_get port-redis)"
	fi
}

# redis_ctl_main stop|start|restart|kill|pause|resume: for tests.  The port stays the same; paused, it
# takes what is sent and answers nothing.
redis_ctl_main() {
	local pid
	pid=$(proc_pid redis) || pid=
	case "${1:-}" in
	stop) proc_end redis 10 ;;
	kill) proc_kill redis ;;
	start) redis_start ;;
	restart) proc_end redis 10 && redis_start ;;
	pause) kill -STOP "${pid:?Redis does not run}" ;;
	resume) kill -CONT "${pid:?Redis does not run}" ;;
	*) die "usage: stop|start|restart|kill|pause|resume" ;;
	esac
}
