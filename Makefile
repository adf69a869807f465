# One non-recursive Makefile: a service is a folder with a main.c, a test is a file; everything
# else follows.  `make help` lists the targets.
#   make SANITIZE=address,undefined check     make SANITIZE=thread check
#   make WERROR= CFLAGS=-O2 all               packagers
#   make COVERAGE=1 check coverage            line coverage (gcovr)
#   make T=test_arena check-one               one test program; V=1 shows the whole commands
comma   := ,
MODE    := $(if $(SANITIZE),$(subst $(comma),-,$(SANITIZE)),$(if $(COVERAGE),coverage,release))
BUILD   ?= build
B       := $(BUILD)/$(MODE)
WERROR  ?= -Werror
Q       := $(if $(V),,@)
PKGS    := libpq libevent libevent_openssl json-c rdkafka libcurl openssl hiredis libical icu-uc icu-i18n libhs
WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wcast-qual -Wformat=2 -Wvla -Wswitch-enum -Wundef \
           $(if $(findstring clang,$(CC)),,-Wduplicated-cond -Wlogical-op)
HARD    := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE \
           $(if $(findstring clang,$(CC)),,-ftrivial-auto-var-init=zero)
CFLAGS  ?= -g $(if $(SANITIZE),-O1 -fsanitize=$(SANITIZE) -fno-sanitize-recover=all,$(if $(COVERAGE),-O0 --coverage,-O2 -D_FORTIFY_SOURCE=3))
# Nothing is asked before `make install` has brought pkg-config.
PKG_C   := $(shell ! command -v pkg-config >/dev/null || pkg-config --cflags $(PKGS))
PKG_L   := $(shell ! command -v pkg-config >/dev/null || pkg-config --libs $(PKGS))
ALL_C   := -std=gnu17 -D_GNU_SOURCE -iquote libcommon -iquote tests/harness $(WARN) $(WERROR) $(HARD) \
           -fno-omit-frame-pointer $(PKG_C) -MMD -MP $(CFLAGS)
ALL_L   := -pie -Wl,--as-needed -Wl,-z,relro,-z,now,-z,noexecstack $(PKG_L) $(LDFLAGS)

obj      = $(patsubst %.c,$B/%.o,$(wildcard $1))
SERVICES := $(patsubst services/%/main.c,%,$(wildcard services/*/main.c services/modules/*/main.c))
FAKES    := $(patsubst tests/fakes/%/main.c,%,$(wildcard tests/fakes/*/main.c))
TOOLS    := $(patsubst tools/%/main.c,%,$(wildcard tools/*/main.c))
COMMON   := $(call obj,libcommon/*.c)
HARNESS  := $(call obj,tests/harness/*.c)
UNIT     := $(patsubst tests/unit/%.c,$B/tests/unit/%,$(wildcard tests/unit/test_*.c))
INTEG    := $(patsubst tests/integration/%.c,$B/tests/integration/%,$(wildcard tests/integration/test_*.c))
FUZZ     := $(patsubst tests/fuzz/%.c,$B/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCH    := $(patsubst bench/%.c,$B/bench/%,$(wildcard bench/bench_*.c))
bin       = $B/waddle-$(notdir $1)
BINS     := $(foreach s,$(SERVICES),$(call bin,$s)) $(foreach f,$(FAKES),$B/waddle-fake-$f) \
            $(foreach t,$(TOOLS),$B/$t)

all: $(BINS)                            ## build every service and tool into build/<mode>/

define service
$(call bin,$1): $(call obj,services/$1/*.c) $B/libcommon.a
	@printf '  LD   %s\n' $$@
	$$(Q)$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L)
endef
$(foreach s,$(SERVICES),$(eval $(call service,$s)))
define fake
$B/waddle-fake-$1: $(call obj,tests/fakes/$1/*.c) $B/libcommon.a
	@printf '  LD   %s\n' $$@
	$$(Q)$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L)
endef
$(foreach f,$(FAKES),$(eval $(call fake,$f)))
define tool
$B/$1: $(call obj,tools/$1/*.c) $B/libcommon.a
	@printf '  LD   %s\n' $$@
	$$(Q)$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L) $$(LIBS_$1)
endef
LIBS_waddle := -ledit
LIBS_eventsub := $B/libcommon.a     # again, for the harness object that comes after it
$(foreach t,$(TOOLS),$(eval $(call tool,$t)))

# `waddle migrate` carries schema/ inside: each file as a text, in order.
SCHEMA := $(sort $(wildcard schema/*.sql))
$B/tools/waddle/schema_built_in.c: schema $(SCHEMA)
	@mkdir -p $(@D)
	@printf '  GEN  %s\n' $@
	$(Q){ echo '#include "schema_files.h"'; echo 'const struct schema_file schema_built_in[] = {'; \
	  for f in $(SCHEMA); do echo "{ \"$${f#schema/}\","; sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $$f; echo '},'; done; \
	  echo '{ 0 } };'; } > $@.new && mv $@.new $@
$B/tools/waddle/schema_built_in.o: $B/tools/waddle/schema_built_in.c tools/waddle/schema_files.h
	@printf '  CC   %s\n' $@
	$(Q)$(CC) $(ALL_C) -iquote tools/waddle -c -o $@ $<
$B/waddle: $B/tools/waddle/schema_built_in.o

$B/eventsub: $B/tests/harness/eventsub.o

$B/libcommon.a: $(COMMON)
	@printf '  AR   %s\n' $@
	$(Q)rm -f $@ && ar rcs $@ $^
# Parts of services come after the pattern's own prerequisites; the archive must be read last.
objects_first = $(filter %.o,$^) $(filter %.a,$^)
$B/tests/unit/test_%: $B/tests/unit/test_%.o $(HARNESS) $B/libcommon.a
	@printf '  LD   %s\n' $@
	$(Q)$(CC) $(CFLAGS) -o $@ $(objects_first) -lcmocka $(ALL_L)
$B/tests/unit/test_router_parse: $B/services/router/parse.o
$B/tests/unit/test_router_alias: $B/services/router/alias.o $B/services/router/parse.o
$B/tests/unit/test_router_breaker: $B/services/router/breaker.o
$B/tests/unit/test_router_call_answer: $B/services/router/call_answer.o $B/services/router/response.o
$B/tests/unit/test_router_due: $B/services/router/due.o
$B/tests/unit/test_router_sign: $B/services/router/sign.o $B/services/router/sign_aws.o
$B/tests/unit/test_eventsub_map $B/tests/fuzz/fuzz_eventsub $B/fuzz/fuzz_eventsub: $B/services/collector-twitch/eventsub.o
$B/tests/fuzz/fuzz_command $B/fuzz/fuzz_command: $B/services/router/parse.o
RULES   := $(addprefix $B/services/router/,rules.o fold.o)
$B/tests/unit/test_rules $B/bench/bench_rules: $(RULES)
$B/tests/unit/test_fold: $B/services/router/fold.o
$B/tests/fuzz/fuzz_rules $B/fuzz/fuzz_rules $B/tests/fuzz/fuzz_fold $B/fuzz/fuzz_fold: $(RULES)
$B/tests/integration/test_%: $B/tests/integration/test_%.o $(HARNESS) $B/libcommon.a
	@printf '  LD   %s\n' $@
	$(Q)$(CC) $(CFLAGS) -o $@ $(objects_first) -lcmocka $(ALL_L)
$B/tests/fuzz/fuzz_%: $B/tests/fuzz/fuzz_%.o $B/tests/fuzz/replay.o $B/libcommon.a
	@printf '  LD   %s\n' $@
	$(Q)$(CC) $(CFLAGS) -o $@ $(objects_first) $(ALL_L)
$B/bench/bench_%: $B/bench/bench_%.o $(filter-out $B/bench/bench_%,$(call obj,bench/lib*.c)) $(HARNESS) $B/libcommon.a
	@printf '  LD   %s\n' $@
	$(Q)$(CC) $(CFLAGS) -o $@ $(objects_first) -lcmocka $(ALL_L)
$B/%.o: %.c
	@mkdir -p $(@D)
	@printf '  CC   %s\n' $@
	$(Q)$(CC) $(ALL_C) -c -o $@ $<

# --- development stack (tools/dev) and tests; RUN: its directory, BROKER: mock or kafka ----------
RUN     ?= run/dev
BROKER  ?= mock
TESTS   := $(UNIT) $(FUZZ) $(INTEG)
install:                                ## install missing packages (apt, with sudo if needed)
	tools/dev/install
start: all                              ## start PostgreSQL, a standby, the broker and the services
	WADDLE_BUILD=$(abspath $B) tools/dev/stack up --dir $(RUN) --broker $(BROKER) --services
stop:                                   ## stop what `make start` started; data stays in run/
	tools/dev/stack down --dir $(RUN)
status:                                 ## what of the stack runs, with pids and ports
	@tools/dev/stack status --dir $(RUN) || test $$? -eq 3      # 3: nothing runs, which is no mistake
demo: install                           ## the main job on real input, from nothing to `waddle chat`
	$(MAKE) -j2 all
	BROKER=$(BROKER) tools/dev/demo
check: $(UNIT) $(FUZZ) headers          ## unit tests, fuzz corpus, each header alone; no server needed
	tests/run --mode $(MODE) unit fuzz
KIND     = $(patsubst tests/%/$(T).c,%,$(wildcard tests/*/$(T).c))
check-one: $(foreach k,$(KIND),$B/tests/$k/$(T)) $(if $(filter integration,$(KIND)),all) ## one test: T=test_arena
	@test -n "$(KIND)" || { echo "no tests/*/$(T).c" >&2; exit 2; }
	tests/run --mode $(MODE) --only $(T) $(KIND)
test: install                           ## everything, with sanitizers, against real servers
	$(MAKE) -j2 SANITIZE=address,undefined all tests headers
	tests/run --mode address-undefined unit fuzz integration
bench: install                          ## every figure beside its floor, <= 10 minutes; B1=bench_router for one
	$(MAKE) -j2 SANITIZE= COVERAGE= all $(patsubst bench/%.c,$(BUILD)/release/bench/%,$(if $(B1),$(B1:%=bench/%.c),$(wildcard bench/bench_*.c)))
	bench/run $(B1)
# Coverage-guided, with clang.  What it finds stays in build/corpus/<name>/, an input that broke a
# property in build/crash/; a crash becomes a file of tests/fuzz/corpus/<name>/.
FUZZ_SECONDS ?= 30
fuzz:                                   ## fuzz every decoder, FUZZ_SECONDS each (clang); F=fuzz_x for one
	$(MAKE) CC="$(if $(findstring ccache,$(CC)),ccache )clang" WERROR= SANITIZE=fuzzer-no-link,address,undefined fuzzers
	@mkdir -p $(BUILD)/crash; for f in $(or $(F),$(notdir $(FUZZ))); do \
	  mkdir -p $(BUILD)/corpus/$${f#fuzz_}; printf '  FUZZ %s, %s s\n' $$f $(FUZZ_SECONDS); \
	  $(BUILD)/fuzzer-no-link-address-undefined/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	    -max_len=16384 -artifact_prefix=$(BUILD)/crash/$$f- -verbosity=1 -print_final_stats=1 \
	    $(BUILD)/corpus/$${f#fuzz_} tests/fuzz/corpus/$${f#fuzz_} >$(BUILD)/crash/$$f.log 2>&1 \
	    || { tail -n 40 $(BUILD)/crash/$$f.log; exit 1; }; \
	  grep -E 'number_of_executed|new_units' $(BUILD)/crash/$$f.log; done
coverage:                               ## line coverage after `make COVERAGE=1 check` (gcovr)
	gcovr --root . --object-directory build/coverage --exclude 'tests/.*' --exclude 'bench/.*' --sort-percentage
fuzzers: $(patsubst %,$B/fuzz/%,$(or $(F),$(notdir $(FUZZ))))
$B/fuzz/fuzz_%: $B/tests/fuzz/fuzz_%.o $B/libcommon.a
	@mkdir -p $(@D)
	$(Q)$(CC) -g -fsanitize=fuzzer,address,undefined -o $@ $(objects_first) $(ALL_L)
tests: $(TESTS)                         ## build every test program
docs: $B/tests/unit/test_envelope       ## write docs/asyncapi.yaml from the tables of the code
	WRITE_DOCS=1 $<
# Each header of libcommon compiles alone, with gcc and, where it is installed, clang.
HEADERS := $(patsubst %.h,$B/%.h.ok,$(wildcard libcommon/*.h tests/harness/*.h))
headers: $(HEADERS)                     ## compile each header alone
$B/%.h.ok: %.h
	@mkdir -p $(@D)
	@printf '  HDR  %s\n' $<
	$(Q)$(CC) $(filter-out -MMD -MP,$(ALL_C)) -fsyntax-only -include $< -x c /dev/null
	@if command -v clang >/dev/null; then clang -std=gnu17 -D_GNU_SOURCE -iquote libcommon -iquote tests/harness \
	  -Wall -Wextra -Werror $(PKG_C) -fsyntax-only -include $< -x c /dev/null; fi
	@touch $@

# --- style: see tools/lint/run ----------------------------------------------------------------
lint: headers                           ## format, clang-tidy, cppcheck, shellcheck, headers alone
	tools/lint/run
format:                                 ## clang-format the function bodies of FILES="..." in place
	tools/lint/run fix $(FILES)
analyze:                                ## gcc -fanalyzer and clang's analyzer over FILES or all: to read
	tools/lint/run analyze $(FILES)

help:                                   ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16 | sort

clean:                                  ## remove build/ (a running stack keeps run/)
	rm -rf $(BUILD)

.SECONDARY:
.PHONY: coverage all help clean lint format analyze install start stop status demo check check-one test tests bench headers docs fuzz fuzzers
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
