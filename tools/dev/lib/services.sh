# shellcheck shell=bash
# services.sh - the database's content, the topics and the services of a development stack.

stack_services=(fake-twitch router collector-twitch memories)

# built NAME: its path; the mode that was built last wins unless WADDLE_BUILD names one.
built() {
	local d
	if [ -n "${WADDLE_BUILD:-}" ]; then
		[ -x "$WADDLE_BUILD/$1" ] && printf '%s\n' "$WADDLE_BUILD/$1"
		return
	fi
	# shellcheck disable=SC2012 # names of ours
	d=$(ls -td "$root"/build/*/"$1" 2>/dev/null | head -n 1)
	[ -n "$d" ] && printf '%s\n' "$d"
}

# Every role of the schema may log in with the stack's one password.
roles_login() {
	pg_sql primary "
		DO \$\$ DECLARE r name; BEGIN
			FOR r IN SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'waddle\\_%' LOOP
				EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', r, '$(secret postgres 16)');
			END LOOP;
		END \$\$" >/dev/null
}

# common_env DATABASE_USER: what the command line tool and every service need.
common_env() {
	printf '%s\n' \
		"KAFKA_BROKERS=$(state_get brokers)" \
		"TOPIC_PREFIX=waddle" \
		"DATABASE_URL=$(pg_url primary waddle "$1")" \
		"DATABASE_READ_URL=$(pg_url standby waddle "$1")" \
		"SEALING_KEY_FILE=$dir/secret/sealing" \
		"ROUTER_URL=http://127.0.0.1:$(state_get port-router || echo 0)"
	# The mock answers a waiting fetch when its time is up, not when something comes.
	if [ "$(state_get broker)" = mock ]; then
		printf '%s\n' KAFKA_FETCH_WAIT_MAX_MS=5
	fi
}

service_env() {
	printf '%s\n' "ADMIN_LISTEN=127.0.0.1:$(state_get "port-$1-admin")" "LOG_LEVEL=${LOG_LEVEL:-info}"
	case "$1" in
	router)
		common_env waddle_router
		printf '%s\n' "HTTP_LISTEN=127.0.0.1:$(state_get port-router)"
		;;
	collector-twitch)
		common_env waddle_collector_twitch
		printf '%s\n' \
			"HTTP_LISTEN=127.0.0.1:$(state_get port-collector-twitch)" \
			"PUBLIC_URL=http://127.0.0.1:$(state_get port-collector-twitch)" \
			"TWITCH_API_URL=http://127.0.0.1:$(state_get port-fake-twitch)/helix" \
			"TWITCH_ID_URL=http://127.0.0.1:$(state_get port-fake-twitch)" \
			"TWITCH_CLIENT_ID=dev-stack" "TWITCH_CLIENT_SECRET=$(secret twitch-client 16)" \
			"TWITCH_BOT_USER_ID=990001" \
			"TWITCH_WEBHOOK_SECRET_FILE=$dir/secret/twitch-webhook"
		;;
	memories) common_env waddle_memories ;;
	fake-twitch) printf '%s\n' "HTTP_LISTEN=127.0.0.1:$(state_get port-fake-twitch)" ;;
	esac
}

# http_status PORT PATH: the status of one GET, without needing a client program.
http_status() {
	timeout 3 bash -c '
		exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
		printf "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" "$2" >&3
		read -r _ status _ <&3 && printf "%s" "$status"' - "$1" "$2" 2>/dev/null
}
service_ready() { # 0 yes, 1 not yet, 2 it has ended
	[ "$(http_status "$(state_get "port-$1-admin")" /readyz)" = 200 ] && return 0
	proc_gone "$1" && return 2
	return 1
}

prepare_up() {
	local tool
	tool=$(built waddle) || die "build/*/waddle is not built yet: make"
	step "database"
	[ -n "$(pg_sql primary "SELECT 1 FROM pg_database WHERE datname = 'waddle'")" ] ||
		pg_sql primary "CREATE DATABASE waddle" >/dev/null
	waddle_env=()
	mapfile -t waddle_env < <(common_env "$pg_user")
	env "${waddle_env[@]}" "$tool" migrate >"$dir/log/migrate.log" 2>&1 || { show_log migrate; die "waddle migrate failed"; }
	roles_login
	step_done "migrated"
	[ "$(state_get broker)" = kafka ] || return 0
	step "topics"
	env "${waddle_env[@]}" "$tool" topics create >"$dir/log/topics.log" 2>&1 ||
		{ show_log topics; die "waddle topics create failed"; }
	step_done "there"
}

services_up() {
	local name program words started=()
	for name in "${stack_services[@]}"; do
		proc_pid "$name" >/dev/null && continue        # its ports are taken, by itself
		port_of "$name-admin" >/dev/null
		port_of "$name" >/dev/null
	done
	for name in "${stack_services[@]}"; do
		proc_pid "$name" >/dev/null && continue
		program=$(built "waddle-$name") || die "build/*/waddle-$name is not built yet: make"
		mapfile -t words < <(service_env "$name")
		spawn "$name" env "${words[@]}" "$program" || die "$name did not start"
		started+=("$name")
	done
	for name in "${stack_services[@]}"; do
		step "$name"
		if [[ " ${started[*]} " != *" $name "* ]]; then
			step_done "already running"
			continue
		fi
		wait_for 60 "$name to answer 200 on /readyz" service_ready "$name" || { show_log "$name"; die "$name is not ready"; }
		step_done "ready"
	done
}
services_down() {
	local i name
	for ((i = ${#stack_services[@]} - 1; i >= 0; i--)); do
		name=${stack_services[i]}
		proc_pid "$name" >/dev/null || continue
		step "$name"
		proc_end "$name" 20
		step_done "stopped"
	done
}
