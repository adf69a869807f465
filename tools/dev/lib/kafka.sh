# shellcheck shell=bash
# kafka.sh - the broker: real Apache Kafka (KRaft, one process as broker and controller) or
# librdkafka's mock cluster in a process of its own.
#
# Kafka comes from Maven Central by tools/dev/kafka/pom.xml; the jars stay in Maven's own local
# repository and run/cache keeps the class path.

kafka_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

kafka_find_java() {
	local d
	for d in "${JAVA_HOME:-}" /usr/lib/jvm/java-{17,21,25}-openjdk-* /usr/lib/jvm/default-java /usr; do
		if [ -n "$d" ] && [ -x "$d/bin/java" ] && [[ $("$d/bin/java" -version 2>&1) =~ version\ \"(1[7-9]|[2-9][0-9]) ]]; then
			kafka_java=$d/bin/java
			return 0
		fi
	done
	die "no Java 17 or newer found; run tools/dev/install"
}

# The class path, resolved once per version of the pom.
kafka_classpath() {
	local pom=$root/tools/dev/kafka/pom.xml cache=$root/run/cache file jar jars
	file=$cache/kafka-$(sha256sum "$pom" | cut -c1-16).classpath
	if [ -s "$file" ]; then
		IFS=: read -ra jars <"$file"
		for jar in "${jars[@]}"; do
			[ -f "$jar" ] || { rm -f "$file"; break; }
		done
	fi
	if [ ! -s "$file" ]; then
		mkdir -p "$cache"
		step "Kafka's jars from Maven"
		if ! mvn -B -ntp -f "$pom" "$kafka_plugin:build-classpath" -Dmdep.outputFile="$file.$$" >"$cache/maven.log" 2>&1; then
			tail -n 25 "$cache/maven.log" >&2
			die "Maven could not fetch Kafka (whole output in $cache/maven.log)"
		fi
		mv "$file.$$" "$file"
		step_done "fetched"
	fi
	kafka_cp=$(<"$file")
}

kafka_conf() {
	local port control
	port=$(port_of kafka)
	control=$(port_of kafka-controller)
	mkdir -p "$dir/kafka"
	cat >"$dir/kafka/server.properties" <<-EOT
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$control
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$control
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		log.dirs=$dir/kafka/data
		auto.create.topics.enable=false
		num.partitions=1
		num.io.threads=4
		num.network.threads=2
		num.replica.fetchers=1
		background.threads=2
		log.segment.bytes=67108864
		log.index.size.max.bytes=1048576
		log.cleaner.dedupe.buffer.size=8388608
		log.cleaner.io.buffer.size=131072
		offsets.topic.num.partitions=8
		offsets.topic.replication.factor=1
		transaction.state.log.num.partitions=2
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		group.initial.rebalance.delay.ms=0
		group.min.session.timeout.ms=1000
	EOT
	cat >"$dir/kafka/log4j2.properties" <<-'EOT'
		status=error
		rootLogger.level=warn
		rootLogger.appenderRef.out.ref=out
		appender.out.type=Console
		appender.out.name=out
		appender.out.layout.type=PatternLayout
		appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
		logger.server.name=kafka.server.KafkaRaftServer
		logger.server.level=info
	EOT
}

kafka_run() { # NAME CLASS ARGUMENT...: the words that start a class of Kafka
	kafka_words=("$kafka_java" -Xms128m "-Xmx${KAFKA_HEAP:-512m}" -XX:+UseG1GC -XX:MaxGCPauseMillis=20
		-XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true
		"-Dlog4j2.configurationFile=$dir/kafka/log4j2.properties" -cp "$kafka_cp" "$@")
}

kafka_format() {
	[ ! -f "$dir/kafka/stack.ready" ] || return 0
	rm -rf "$dir/kafka/data"
	kafka_run kafka.tools.StorageTool format --cluster-id "$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22)" \
		--config "$dir/kafka/server.properties"
	"${kafka_words[@]}" >"$dir/log/kafka-format.log" 2>&1 || { show_log kafka-format; die "Kafka's storage could not be formatted"; }
	touch "$dir/kafka/stack.ready"
}

# A metadata request (version 4, no topics) that names at least one broker: 16 bytes of the answer
# are length, correlation id, throttle time and the number of brokers.
kafka_answers() {
	local answer
	answer=$(
		exec 2>/dev/null
		timeout 3 bash -c '
			exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
			printf "\0\0\0\025\0\003\0\004\0\0\0\001\0\006waddle\0\0\0\0\0" >&3
			head -c 16 <&3 | od -An -v -tu1' - "$(state_get port-kafka)" | tr -s ' \n' ' '
	) || true
	# shellcheck disable=SC2086 # fields
	set -- $answer
	[ $# -eq 16 ] && [ $((${13} + ${14} + ${15} + ${16})) -gt 0 ] && return 0
	proc_gone kafka && return 2
	return 1
}

# Starting takes seconds: kafka_launch returns at once, kafka_ready waits.
kafka_launch() {
	kafka_find_java
	kafka_classpath
	kafka_conf
	kafka_format
	kafka_run kafka.Kafka "$dir/kafka/server.properties"
	spawn kafka "${kafka_words[@]}"
}
kafka_ready() {
	local try
	for try in 1 2 3; do
		wait_for 180 "Kafka to answer a metadata request" kafka_answers && return 0
		show_log kafka
		grep -qs 'Address already in use' "$dir/log/kafka.log" || return 1
		say "its port was taken meanwhile, attempt $try of 3"
		rm -f "$dir/state/port-kafka" "$dir/state/port-kafka-controller"
		kafka_launch || return 1
	done
	return 1
}
kafka_start() {
	proc_pid kafka >/dev/null && return 0
	kafka_launch && kafka_ready
}

mock_written() {
	[ -s "$dir/state/brokers" ] && return 0
	proc_gone mockbroker && return 2
	return 1
}
mock_up() {
	local tool
	step "mock broker"
	if proc_pid mockbroker >/dev/null; then
		step_done "already running, $(state_get brokers)"
		return 0
	fi
	tool=$(built mockbroker) || die "build/*/mockbroker is not built yet: make"
	rm -f "$dir/state/brokers"
	spawn mockbroker "$tool" "$dir/state/brokers" || die "the mock broker did not start"
	wait_for 20 "the mock broker to say where it listens" mock_written || { show_log mockbroker; die "no mock broker"; }
	step_done "ready on $(state_get brokers)"
}

# kafka_ctl_main stop|start|restart|kill: for tests.  The port stays the same.
kafka_ctl_main() {
	case "${1:-}" in
	stop) proc_end kafka 45 ;;
	kill) proc_kill kafka ;;
	start) kafka_start ;;
	restart) proc_end kafka 45 && kafka_start ;;
	*) die "usage: stop|start|restart|kill" ;;
	esac
}
