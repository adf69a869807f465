# shellcheck shell=bash
# common.sh - what the scripts of the development stack share: words for people, the run
# directory, free ports, waiting with a limit, and processes that are known by pid *and* start
# time, so that a recycled pid is never signalled.
#
# Everything a stack leaves behind is below $dir:
#   state/   ports and marks of finished steps      pid/   "<pid> <start time>" per process
#   log/     one file per process                   secret/   keys, mode 600
#   pg/ kafka/   data

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd -P)
lock_fd=

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# "postgres primary ... " now, "ready (1.2 s)" when step_done: progress for whoever waits.
step_began_ms=0
now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "$((t / 1000))"; }
step() { step_began_ms=$(now_ms); printf '  %-28s ' "$*" >&2; }
step_done() {
	local ms=$(($(now_ms) - step_began_ms))
	printf '%s (%d.%d s)\n' "$*" $((ms / 1000)) $((ms % 1000 / 100)) >&2
}

# use_dir PATH [make]: the run directory, absolute, private to its owner.
use_dir() {
	[ -n "$1" ] || die "the run directory must have a name"
	if [ "${2:-}" = make ]; then
		mkdir -p "$1"
		chmod 711 "$1"
		mkdir -p "$1"/{state,pid,log,secret}
		chmod 700 "$1"/{state,pid,log,secret}
	fi
	[ -d "$1/state" ] || return 1
	dir=$(cd "$1" && pwd -P)
}

# One stack command at a time.  Children must not inherit the descriptor: spawn() closes it.
lock_dir() {
	exec {lock_fd}>"$dir/state/lock"
	flock -w 120 "$lock_fd" || die "another stack command holds $dir/state/lock for 120 s"
}

state_get() { [ -f "$dir/state/$1" ] && cat "$dir/state/$1"; }
state_set() { printf '%s\n' "$2" >"$dir/state/$1.new" && mv "$dir/state/$1.new" "$dir/state/$1"; }

# wait_for SECONDS WHAT COMMAND...: repeats COMMAND until it succeeds.  Its status 2 means that it
# never will.  Says what was waited for when the time is up.
wait_for() {
	local limit=$1 what=$2 end status
	shift 2
	end=$(($(now_ms) + limit * 1000))
	while :; do
		status=0
		"$@" || status=$?
		[ "$status" -eq 0 ] && return 0
		if [ "$status" -eq 2 ]; then
			say "gave up: $what"
			return 1
		fi
		if [ "$(now_ms)" -ge "$end" ]; then
			say "not within $limit s: $what"
			return 1
		fi
		sleep 0.05
	done
}

# Ports below the range the kernel gives to outgoing connections (32768), so that a server which
# was stopped finds its own port again.
port_is_free() {
	local hex
	hex=$(printf ':%04X' "$1")
	! awk -v p="$hex" '$4 == "0A" && substr($2, length($2) - 4) == p { found = 1 } END { exit !found }' \
		/proc/net/tcp /proc/net/tcp6 2>/dev/null
}
port_of() { # NAME: the port it had before, if that is free now; else a new one
	local port
	port=$(state_get "port-$1") || port=
	while [ -z "$port" ] || ! port_is_free "$port" || { [ -z "$(state_get "port-$1")" ] && port_is_ours "$port"; }; do
		rm -f "$dir/state/port-$1"
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
	done
	state_set "port-$1" "$port"
	printf '%s\n' "$port"
}
port_is_ours() { grep -qsx "$1" "$dir"/state/port-*; }

# --- processes ----------------------------------------------------------------------------------
# Start time in clock ticks since boot (proc(5), field 22); fails when gone or a zombie.
proc_start_time() {
	local stat
	{ stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086 # fields
	set -- $stat
	[ "$1" != Z ] && printf '%s\n' "${20}"
}
proc_record() { # NAME PID
	local t
	t=$(proc_start_time "$2") || return 1
	printf '%s %s\n' "$2" "$t" >"$dir/pid/$1"
}
# The pid recorded under NAME if that very process still runs; a stale record is removed.
proc_pid() {
	local pid began
	[ -f "$dir/pid/$1" ] || return 1
	read -r pid began <"$dir/pid/$1" || pid=
	if [[ $pid =~ ^[0-9]+$ ]] && [ "$(proc_start_time "$pid")" = "$began" ]; then
		printf '%s\n' "$pid"
		return 0
	fi
	rm -f "$dir/pid/$1"
	return 1
}
proc_gone() { ! proc_pid "$1" >/dev/null; }

# proc_end NAME SECONDS: SIGTERM, and SIGKILL to what is still there after SECONDS.
proc_end() {
	local pid
	pid=$(proc_pid "$1") || return 0
	kill -TERM "$pid" 2>/dev/null || true
	kill -CONT "$pid" 2>/dev/null || true
	if ! wait_for "$2" "the end of $1 (pid $pid)" proc_gone "$1"; then
		kill -KILL "$pid" 2>/dev/null || true
		wait_for 10 "the end of $1 (pid $pid) after SIGKILL" proc_gone "$1"
	fi
}
proc_kill() { # NAME: at once
	local pid
	pid=$(proc_pid "$1") || return 0
	kill -KILL "$pid" 2>/dev/null || true
	wait_for 10 "the end of $1 (pid $pid) after SIGKILL" proc_gone "$1"
}

# spawn NAME COMMAND...: in a session of its own, output to log/NAME.log (the last one is kept as
# NAME.log.1), recorded.
spawn() {
	local name=$1 log=$dir/log/$1.log
	shift
	[ ! -s "$log" ] || mv "$log" "$log.1"
	if [ -n "$lock_fd" ]; then
		setsid "$@" >"$log" 2>&1 </dev/null {lock_fd}>&- &
	else
		setsid "$@" >"$log" 2>&1 </dev/null &
	fi
	proc_record "$name" $! || return 1
}

# The end of a log, for whoever has to find out why.
show_log() {
	[ -f "$dir/log/$1.log" ] || return 0
	say "--- the end of $dir/log/$1.log"
	tail -n "${2:-25}" "$dir/log/$1.log" >&2
	say "---"
}

# --- secrets ------------------------------------------------------------------------------------
# secret NAME BYTES: hexadecimal, made once, mode 600.
secret() {
	local file=$dir/secret/$1
	if [ ! -s "$file" ]; then
		(umask 077 && od -An -v -tx1 -N"$2" /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file")
	fi
	cat "$file"
}
