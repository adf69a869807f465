# One non-recursive Makefile: a service is a folder with a main.c, a test is a file; everything
# else follows.  `make help` lists the targets.
#   make SANITIZE=address,undefined check     make SANITIZE=thread check
#   make WERROR= CFLAGS=-O2 all               packagers
#   make COVERAGE=1 check coverage            line coverage (gcovr)
#   make T=test_arena check-one               one test program
comma   := ,
MODE    := $(if $(SANITIZE),$(subst $(comma),-,$(SANITIZE)),$(if $(COVERAGE),coverage,release))
BUILD   ?= build
B       := $(BUILD)/$(MODE)
WERROR  ?= -Werror
PKGS    := libpq libevent libevent_openssl json-c rdkafka libcurl openssl libical
WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wwrite-strings -Wcast-qual -Wformat=2 -Wvla -Wswitch-enum -Wundef \
           $(if $(findstring clang,$(CC)),,-Wduplicated-cond -Wlogical-op)
HARD    := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE \
           $(if $(findstring clang,$(CC)),,-ftrivial-auto-var-init=zero)
CFLAGS  ?= -g $(if $(SANITIZE),-O1 -fsanitize=$(SANITIZE) -fno-sanitize-recover=all,$(if $(COVERAGE),-O0 --coverage,-O2 -D_FORTIFY_SOURCE=3))
ALL_C   := -std=gnu17 -D_GNU_SOURCE -iquote libcommon -iquote tests/harness $(WARN) $(WERROR) $(HARD) \
           -fno-omit-frame-pointer $(shell pkg-config --cflags $(PKGS)) -MMD -MP $(CFLAGS)
ALL_L   := -pie -Wl,--as-needed -Wl,-z,relro,-z,now,-z,noexecstack $(shell pkg-config --libs $(PKGS)) $(LDFLAGS)

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
	$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L)
endef
$(foreach s,$(SERVICES),$(eval $(call service,$s)))
define fake
$B/waddle-fake-$1: $(call obj,tests/fakes/$1/*.c) $B/libcommon.a
	$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L)
endef
$(foreach f,$(FAKES),$(eval $(call fake,$f)))
define tool
$B/$1: $(call obj,tools/$1/*.c) $B/libcommon.a
	$$(CC) $$(CFLAGS) -o $$@ $$^ $$(ALL_L) $$(LIBS_$1)
endef
LIBS_waddle := -ledit
$(foreach t,$(TOOLS),$(eval $(call tool,$t)))

# `waddle migrate` carries schema/ inside: each file as a text, in order.
SCHEMA := $(sort $(wildcard schema/*.sql))
$B/tools/waddle/schema_built_in.c: schema $(SCHEMA)
	@mkdir -p $(@D)
	{ echo '#include "schema_files.h"'; echo 'const struct schema_file schema_built_in[] = {'; \
	  for f in $(SCHEMA); do echo "{ \"$${f#schema/}\","; sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $$f; echo '},'; done; \
	  echo '{ 0 } };'; } > $@.new && mv $@.new $@
$B/tools/waddle/schema_built_in.o: $B/tools/waddle/schema_built_in.c tools/waddle/schema_files.h
	$(CC) $(ALL_C) -iquote tools/waddle -c -o $@ $<
$B/waddle: $B/tools/waddle/schema_built_in.o

$B/libcommon.a: $(COMMON)
	rm -f $@ && ar rcs $@ $^
$B/tests/unit/test_%: $B/tests/unit/test_%.o $(HARNESS) $B/libcommon.a
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka $(ALL_L)
$B/tests/integration/test_%: $B/tests/integration/test_%.o $(HARNESS) $B/libcommon.a
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka $(ALL_L)
$B/tests/fuzz/fuzz_%: $B/tests/fuzz/fuzz_%.o $B/tests/fuzz/replay.o $B/libcommon.a
	$(CC) $(CFLAGS) -o $@ $^ $(ALL_L)
$B/bench/bench_%: $B/bench/bench_%.o $(filter-out $B/bench/bench_%,$(call obj,bench/lib*.c)) $(HARNESS) $B/libcommon.a
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka $(ALL_L)
$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_C) -c -o $@ $<

help:                                   ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16 | sort

clean:                                  ## remove build/ (a running stack keeps run/)
	rm -rf $(BUILD)

.SECONDARY:
.PHONY: all help clean
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
