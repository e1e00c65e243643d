# Makefile: build, test and run nestbed.  `make help` lists the targets.
#   B=build-asan SAN=address,undefined   a second build tree with sanitizers
#   V=1                                  show commands

B ?= build
CC ?= gcc
OPT ?= -O2 -g
SAN ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wwrite-strings \
        -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wformat=2 -Werror
GIT := $(shell git describe --always --dirty --abbrev=7 2>/dev/null || echo unknown)

CPPFLAGS += -I. -D_GNU_SOURCE
CFLAGS += -std=gnu11 $(OPT) $(WARN) -fno-strict-aliasing -ffp-contract=off
LDLIBS := -ljansson -linih -lnuma -lzstd -lxxhash -lm -ldl
ifeq ($(SAN),)
LDLIBS += -ljemalloc
else
CFLAGS += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SAN)
CPPFLAGS += -DNB_NO_JEMALLOC
endif

LAYERS := base memmgr balloon ksm guest shadow_vs_ept vmm workloads bench
SRCS := $(sort $(foreach d,$(LAYERS),$(wildcard $(d)/*.c)))
MAIN := bench/main.c
OBJS := $(SRCS:%.c=$(B)/%.o) $(B)/cpu_presets.o
LIBOBJS := $(filter-out $(MAIN:%.c=$(B)/%.o),$(OBJS))
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))

.DELETE_ON_ERROR:
.PHONY: all
all: $(B)/nestbed

$(B)/nestbed: $(OBJS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Built-in CPU presets: every shadow_vs_ept/cpus/*.ini as a string.
PRESETS := $(sort $(wildcard shadow_vs_ept/cpus/*.ini))
$(B)/cpu_presets.c: $(PRESETS) tools/embed-presets
	@mkdir -p $(@D)
	$(Q)tools/embed-presets $(PRESETS) > $@
$(B)/cpu_presets.o: $(B)/cpu_presets.c
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/tests/%: tests/unit/%.c $(LIBOBJS)
	@mkdir -p $(@D)
	$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(LIBOBJS) $(LDLIBS) -lcmocka

.PHONY: clean
clean:
	rm -rf build build-*

-include $(OBJS:.o=.d) $(UNIT:%=%.d)
