# shellcheck shell=bash
# postgres.sh - a private PostgreSQL primary and its streaming standby.
#
# Ours alone: own data directories, ports and sockets; the machine's clusters are not looked at.
# PostgreSQL refuses to run as root, so root runs it as the user postgres.  Over TCP (127.0.0.1)
# a password is asked for; the socket directory is closed to other users.  fsync stays on: what
# the tests prove about durability would mean nothing without it.

pg_user=waddle

pg_find_bin() {
	local d
	for d in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5 -rn) "$(pg_config --bindir 2>/dev/null || true)"; do
		if [ -n "$d" ] && [ -x "$d/initdb" ] && [ -x "$d/pg_basebackup" ]; then
			pg_bin=$d
			return 0
		fi
	done
	die "no PostgreSQL server found below /usr/lib/postgresql; run tools/dev/install"
}

# pg_run: the words in front of every PostgreSQL program.  setpriv rather than su: it becomes the
# program, so the pid we record is the server's.
pg_prepare() {
	pg_find_bin
	pg_run=(env -C / -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE -u PGOPTIONS -u PGSERVICE -u PGPASSWORD HOME=/)
	if [ "$(id -u)" -eq 0 ]; then
		getent passwd postgres >/dev/null || die "no user postgres; run tools/dev/install"
		pg_run+=(setpriv --reuid=postgres --regid=postgres --init-groups)
	fi
	pg_dirs
}
pg_as() { "${pg_run[@]}" "$@"; }

# Data below the run directory when the user postgres can get there (a clone in root's home is
# closed to it), else a private directory of its own; sockets there too unless the name would be
# too long for sockaddr_un (107 bytes).  Both are recorded and reused.
pg_dirs() {
	local s
	pg_data=$(state_get pg-data) || pg_data=
	if [ -z "$pg_data" ] || [ ! -d "$pg_data" ]; then
		pg_data=$dir/pg
		mkdir -p "$pg_data"
		if [ "$(id -u)" -eq 0 ]; then
			chown postgres: "$pg_data"
			if ! pg_as test -w "$pg_data"; then
				rmdir "$pg_data"
				pg_data=$(mktemp -d "${TMPDIR:-/var/tmp}/waddle-pg.XXXXXX")
				chown postgres: "$pg_data"
				ln -sfn "$pg_data" "$dir/pg"
			fi
		fi
		chmod 700 "$pg_data"
		state_set pg-data "$pg_data"
	fi
	pg_sock=$(state_get pg-sock) || pg_sock=
	if [ -z "$pg_sock" ] || [ ! -d "$pg_sock" ]; then
		pg_sock=$pg_data/sock
		s=$pg_sock/.s.PGSQL.65535.lock
		if [ "${#s}" -gt 107 ]; then
			pg_sock=$(mktemp -d "${TMPDIR:-/tmp}/waddle-sock.XXXXXX")
		else
			mkdir -p "$pg_sock"
		fi
		[ "$(id -u)" -ne 0 ] || chown postgres: "$pg_sock"
		chmod 700 "$pg_sock"
		state_set pg-sock "$pg_sock"
	fi
}

# pg_sql primary|standby SQL: as the superuser over the socket; one value per line.
pg_sql() {
	pg_as "$pg_bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$pg_sock" -p "$(state_get "port-pg-$1")" \
		-U "$pg_user" -d postgres -c "$2"
}

pg_url() { # primary|standby [DATABASE [USER]]
	printf 'postgresql://%s:%s@127.0.0.1:%s/%s\n' "${3:-$pg_user}" "$(secret postgres 16)" \
		"$(state_get "port-pg-$1")" "${2:-postgres}"
}

pg_conf() { # primary|standby, to stack.conf in its data directory
	{
		cat <<-EOT
			listen_addresses = '127.0.0.1'
			port = $(state_get "port-pg-$1")
			unix_socket_directories = '$pg_sock'
			unix_socket_permissions = 0700
			max_connections = 200
			shared_buffers = 64MB
			wal_level = replica
			max_wal_senders = 10
			max_replication_slots = 10
			max_slot_wal_keep_size = 2GB
			max_wal_size = 1GB
			hot_standby = on
			fsync = on
			synchronous_commit = on
			wal_retrieve_retry_interval = 200ms
			timezone = 'UTC'
			log_timezone = 'UTC'
			log_line_prefix = '%m [%p] %q%u@%d '
			jit = off
		EOT
		if [ "$1" = standby ]; then
			cat <<-EOT
				primary_conninfo = 'host=$pg_sock port=$(state_get port-pg-primary) user=$pg_user application_name=standby'
				primary_slot_name = 'standby'
			EOT
		fi
	} | pg_as tee "$pg_data/$1/stack.conf" >/dev/null
}

pg_init_primary() {
	[ ! -f "$pg_data/primary/stack.ready" ] || return 0
	pg_as rm -rf "$pg_data/primary" "$pg_data/standby"
	secret postgres 16 | pg_as sh -c 'umask 077 && cat >"$1"' - "$pg_data/password"
	pg_as "$pg_bin/initdb" -D "$pg_data/primary" -U "$pg_user" --pwfile="$pg_data/password" \
		--auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C.UTF-8 >"$dir/log/initdb.log" 2>&1 ||
		{ show_log initdb; die "initdb failed"; }
	pg_as rm -f "$pg_data/password"
	pg_as tee -a "$pg_data/primary/postgresql.conf" >/dev/null <<<"include = 'stack.conf'"
	pg_as touch "$pg_data/primary/stack.ready"
}

pg_init_standby() {
	[ ! -f "$pg_data/standby/stack.ready" ] || return 0
	pg_as rm -rf "$pg_data/standby"
	pg_sql primary "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'standby'" >/dev/null
	pg_as "$pg_bin/pg_basebackup" -D "$pg_data/standby" -h "$pg_sock" -p "$(state_get port-pg-primary)" \
		-U "$pg_user" -C -S standby -X stream -c fast >"$dir/log/basebackup.log" 2>&1 ||
		{ show_log basebackup; die "pg_basebackup failed"; }
	pg_as touch "$pg_data/standby/standby.signal" "$pg_data/standby/stack.ready"
}

pg_accepts() { # 0 yes, 1 not yet, 2 its process is gone
	pg_as "$pg_bin/pg_isready" -q -h "$pg_sock" -p "$(state_get "port-pg-$1")" -t 2 && return 0
	proc_gone "pg-$1" && return 2
	return 1
}
pg_streams() {
	[ "$(pg_sql primary "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'" 2>/dev/null)" = 1 ]
}

# Lock files left by kill -9 stop the next start when their pid now belongs to somebody else, or to
# a zombie nobody waits for.  PostgreSQL's processes live in their data directory: that tells whose
# pid it is.
pg_adopt_or_forget() {
	local file=$pg_data/$1/postmaster.pid pid socket
	socket=$pg_sock/.s.PGSQL.$(state_get "port-pg-$1" || true)
	pid=$(pg_as head -n 1 "$file" 2>/dev/null) || pid=
	if [[ $pid =~ ^[0-9]+$ ]] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$pg_data/$1" ]; then
		proc_record "pg-$1" "$pid" || true
	else
		pg_as rm -f "$file" "$socket" "$socket.lock"
	fi
}
# Backends outlive their killed postmaster for a moment and keep its shared memory.
pg_no_orphans() {
	[ -z "$(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$pg_data/$1" 2>/dev/null)" ]
}

pg_start() { # primary|standby; nothing to do when it runs already
	local try
	proc_pid "pg-$1" >/dev/null && return 0
	pg_adopt_or_forget "$1"
	proc_pid "pg-$1" >/dev/null && return 0
	wait_for 30 "the old backends of the $1 to end" pg_no_orphans "$1" || return 1
	for try in 1 2 3; do
		port_of "pg-$1" >/dev/null
		pg_conf "$1"
		spawn "pg-$1" "${pg_run[@]}" "$pg_bin/postgres" -D "$pg_data/$1" || return 1
		wait_for 120 "PostgreSQL $1 to accept connections" pg_accepts "$1" && return 0
		show_log "pg-$1"
		grep -qs 'Address already in use' "$dir/log/pg-$1.log" || return 1
		say "its port was taken meanwhile, attempt $try of 3"
		rm -f "$dir/state/port-pg-$1"
	done
	return 1
}
pg_stop() { # primary|standby: fast shutdown, which rolls open transactions back
	local pid
	pid=$(proc_pid "pg-$1") || return 0
	kill -INT "$pid" 2>/dev/null || true
	wait_for 60 "PostgreSQL $1 to shut down" proc_gone "pg-$1" || proc_kill "pg-$1"
}
pg_kill() {
	proc_kill "pg-$1" && wait_for 30 "the backends of the $1 to end" pg_no_orphans "$1"
}

pg_up() {
	step "PostgreSQL primary"
	if proc_pid pg-primary >/dev/null; then
		step_done "already running, port $(state_get port-pg-primary)"
	else
		pg_init_primary
		pg_start primary || die "PostgreSQL primary did not start"
		step_done "ready on port $(state_get port-pg-primary)"
	fi
	step "PostgreSQL standby"
	if proc_pid pg-standby >/dev/null; then
		step_done "already running, port $(state_get port-pg-standby)"
	else
		pg_init_standby
		pg_start standby || die "PostgreSQL standby did not start"
		wait_for 60 "the standby to stream from the primary" pg_streams || die "no replication"
		step_done "streaming on port $(state_get port-pg-standby)"
	fi
}

pg_replay_is() { [ "$(pg_sql standby 'SELECT pg_get_wal_replay_pause_state()' 2>/dev/null)" = "$1" ]; }

# pg_ctl_main stop|start|restart|kill primary|standby, pause-replay, resume-replay: for tests.
# Each returns when it is so.
pg_ctl_main() {
	case "${1:-} ${2:-}" in
	"stop primary" | "stop standby") pg_stop "$2" ;;
	"start primary" | "start standby") pg_start "$2" ;;
	"kill primary" | "kill standby") pg_kill "$2" ;;
	"restart primary" | "restart standby") pg_stop "$2" && pg_start "$2" ;;
	"pause-replay "*)
		pg_sql standby 'SELECT pg_wal_replay_pause()' >/dev/null &&
			wait_for 10 "replay to pause" pg_replay_is paused
		;;
	"resume-replay "*)
		pg_sql standby 'SELECT pg_wal_replay_resume()' >/dev/null &&
			wait_for 10 "replay to go on" pg_replay_is 'not paused'
		;;
	*) die "usage: stop|start|restart|kill primary|standby, pause-replay, resume-replay" ;;
	esac
}
