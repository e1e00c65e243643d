# Makefile: build, test and run nestbed.  `make help` lists the targets.
#   B=build-asan SAN=address,undefined   a second build tree with sanitizers
#   CC=clang OPT=-O0                     another compiler, other optimisation
#   V=1                                  show commands

VERSION := 0.1.0

B ?= build
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
OPT ?= -O2 -g
OBJCOPY ?= objcopy
SAN ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

prefix ?= /usr/local
bindir ?= $(prefix)/bin
datadir ?= $(prefix)/share
DATA := $(datadir)/nestbed

# All cores, unless -j was given.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 1)
endif

WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wwrite-strings \
        -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wformat=2 -Werror
GIT := $(shell git describe --always --dirty --abbrev=7 2>/dev/null || cat .git-version 2>/dev/null || echo unknown)
# Sources git does not know yet make a tree dirty too.
UNTRACKED := $(shell git ls-files --others --exclude-standard -- '*.c' '*.h' '*.ini' 2>/dev/null)
GIT := $(GIT)$(if $(UNTRACKED),$(if $(findstring -dirty,$(GIT)),,-dirty))
DIFF := $(if $(findstring -dirty,$(GIT)),$(shell git diff HEAD 2>/dev/null | git hash-object --stdin | cut -c1-16))

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

LAYERS := base memmgr balloon ksm guest shadow_vs_ept vmm workloads fuzz bench bench/claims bench/experiments
SRCS := $(sort $(foreach d,$(LAYERS),$(wildcard $(d)/*.c)))
MAIN := bench/main.c
OBJS := $(SRCS:%.c=$(B)/%.o) $(B)/cpu_presets.o $(B)/vmm/image_blob.o
LIBOBJS := $(filter-out $(MAIN:%.c=$(B)/%.o),$(OBJS))
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
# Not with sanitizers: faults that need none to be seen; millions of cases through code that the others run too.
UNIT := $(if $(SAN),$(filter-out %/test_mutants %/test_matrix,$(UNIT)),$(UNIT))
PLUGIN := $(if $(wildcard workloads/qemu_plugin/plugin.c),$(B)/nestbed-qemu-plugin.so)

TRACES := $(wildcard workloads/traces/*.nbt)
GUESTS := $(patsubst tests/guests/%.S,$(B)/guests/%.flat,$(wildcard tests/guests/*.S))

# The same program without shared libraries: init and all commands of the lab machine (labvm). Not made
# where a library has no archive; nor with sanitizers, which have none.
STATIC_LIBS := jansson inih numa zstd xxhash jemalloc m
STATIC := $(if $(SAN),,$(B)/nestbed-static)

# Where `labvm` keeps the kernel it fetched.
export NESTBED_CACHE ?= $(CURDIR)/.cache

.DELETE_ON_ERROR:
.PHONY: all
all: $(B)/nestbed $(B)/nestbed-bench $(STATIC) $(PLUGIN) $(GUESTS)  ## build (the default)

# A removed source must leave the program too.
$(B)/objects: FORCE
	$(call stamp,$(OBJS))
$(B)/nestbed: $(OBJS) $(B)/objects | $(STATIC)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(OBJS) $(LDLIBS)

$(B)/nestbed-static: $(OBJS) $(B)/objects
	$(call say,LINK,$@)
	$(Q)for l in $(STATIC_LIBS); do \
	    case $$($(CC) -print-file-name=lib$$l.a) in \
	    /*) ;; \
	    *) echo "no $@, which labvm needs: lib$$l.a is missing"; rm -f $@; exit 0 ;; \
	    esac; \
	done; \
	$(CC) $(LDFLAGS) $$(ld --help | grep -qe --no-warnings && echo -Wl,--no-warnings) -static -s \
	    -o $@ $(OBJS) -Wl,--start-group $(LDLIBS) -Wl,--end-group

# The same program; called by this name it is `nestbed bench`, with Google Benchmark's flags.
$(B)/nestbed-bench: $(B)/nestbed
	$(Q)ln -f $< $@ 2>/dev/null || cp $< $@

$(B)/%.o: %.c $(B)/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Multiboot images for the tests of `nestbed boot`: 64-bit objects, so that they may hold both kinds of
# code, in an ELF32 file.
$(B)/guests/%.flat: tests/guests/%.S tests/guests/multiboot.inc tests/guests/image.ld $(B)/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(call say,GUEST,$@)
	$(Q)$(CC) -m64 -I. -c -o $(@:.flat=.o) $<
	$(Q)$(LD) -m elf_x86_64 -static -nostdlib -z noexecstack -T tests/guests/image.ld -o $(@:.flat=.elf) $(@:.flat=.o)
	$(Q)$(OBJCOPY) -O elf32-i386 $(@:.flat=.elf) $@

# A file that changes when what it is made of does, and only then.
define stamp
@mkdir -p $(@D)
@printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
endef
.PHONY: FORCE
FORCE:
$(B)/flags: FORCE
	$(call stamp,$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
$(B)/version: FORCE
	$(call stamp,$(VERSION) $(GIT) $(DIFF))
$(B)/bench/version.o: $(B)/version
$(B)/bench/version.o: CPPFLAGS += -DNB_VERSION='"$(VERSION)"' -DNB_GIT='"$(GIT)"' -DNB_DIFF='"$(DIFF)"' -DNB_OPT='"$(strip $(OPT))"'
$(B)/data-folder: FORCE
	$(call stamp,$(DATA))
DATA_OBJS := $(patsubst %.c,$(B)/%.o,$(shell grep -l NB_DATADIR $(SRCS)))
$(DATA_OBJS): $(B)/data-folder
$(DATA_OBJS): CPPFLAGS += -DNB_DATADIR='"$(DATA)"'

# Figures are compiled in (.incbin), which leaves no .d entry.
$(B)/bench/bench_fig.o $(patsubst %.c,$(B)/%.o,$(wildcard bench/experiments/*.c)): $(wildcard bench/plots/*.gp)

# Built-in CPU presets: every shadow_vs_ept/cpus/*.ini as a string.
PRESETS := $(sort $(wildcard shadow_vs_ept/cpus/*.ini))
$(B)/cpu_presets.c: $(PRESETS) tools/embed-presets
	@mkdir -p $(@D)
	$(Q)tools/embed-presets $(PRESETS) > $@
$(B)/cpu_presets.o: $(B)/cpu_presets.c $(B)/flags | $(B)/deps-build
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# The guest image (guest/image/abi.h): the kernel of guest/ in ring 0, every registered workload in
# ring 3, as one flat file that vmm/image_blob.o holds. Its flags are its own: a kernel has no
# sanitizer, no floating point and no red zone.
IMAGE_FLAGS := -I. -std=gnu11 -O2 -g $(WARN) -fno-strict-aliasing -ffreestanding -mgeneral-regs-only \
               -mno-red-zone -mcmodel=kernel -fno-pic -fno-stack-protector -fcf-protection=none \
               -fno-asynchronous-unwind-tables
WORKLOADS := $(shell grep -l '^REGISTER.*.workload,' workloads/*.c)
IMAGE_KERNEL := $(patsubst %.c,$(B)/image/%.o,$(wildcard guest/*.c guest/image/*.c) balloon/driver.c) $(B)/image/guest/image/entry.o
IMAGE_USER := $(patsubst %.c,$(B)/image/user/%.o,$(WORKLOADS) workloads/script.c $(wildcard workloads/image/*.c) guest/image/mem.c)
$(B)/image/flags: FORCE
	$(call stamp,$(CC) $(IMAGE_FLAGS) $(IMAGE_KERNEL) $(IMAGE_USER))
$(B)/image/user/%.o: %.c $(B)/image/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(IMAGE_FLAGS) -DNB_FREESTANDING -MMD -MP -c -o $@ $<
$(B)/image/%.o: %.c $(B)/image/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(IMAGE_FLAGS) -MMD -MP -c -o $@ $<
$(B)/image/%.o: %.S $(B)/image/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -MMD -MP -c -o $@ $<
# Two halves that know of each other only what the linker script lists.
$(B)/image/kernel.o: $(IMAGE_KERNEL)
	$(Q)$(LD) -r -o $@ $^
$(B)/image/user.o: $(IMAGE_USER)
	$(Q)$(LD) -r -o $@ $^
	$(Q)$(OBJCOPY) -G user_entry -G user_args -G user_stack_top $@
$(B)/image/image.elf: $(B)/image/kernel.o $(B)/image/user.o guest/image/image.ld
	$(call say,IMAGE,$@)
	$(Q)$(LD) -static -nostdlib -z max-page-size=4096 -T guest/image/image.ld -o $@ $(filter %.o,$^)
$(B)/image/image.bin: $(B)/image/image.elf
	$(Q)$(OBJCOPY) -O binary $< $@
$(B)/vmm/image_blob.o: vmm/image_blob.S $(B)/image/image.bin | $(B)/deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) -DNB_IMAGE='"$(B)/image/image.bin"' -c -o $@ $<

# Records the memory accesses of any program under qemu-x86_64, which has no sanitizer run-time.
$(B)/nestbed-qemu-plugin.so: $(wildcard workloads/qemu_plugin/*.[ch]) $(B)/flags | $(B)/deps-build
	@mkdir -p $(@D)
	$(call say,PLUGIN,$@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize=% -fno-sanitize-recover=%,$(CFLAGS)) -shared -fPIC -o $@ $(filter %.c,$^)

# A unit test links every object but main.o; or, when a comment near its top says
#     link: base guest workloads/touch
# (to the end of the comment or an empty line of it) the objects of those folders and single files.
unit_words = $(shell awk '/link:/ {on = 1; sub(/.*link:/, "")} \
    on {end = /\*\//; sub(/\*\/.*/, ""); sub(/^ *\*/, ""); if (!NF) exit; print; if (end) exit} \
    NR > 40 {exit}' tests/unit/$(1).c)
word_objs = $(or $(filter $(B)/$(1)/%.o $(B)/$(1).o,$(LIBOBJS)),$(error link: no folder or file '$(1)'))
unit_objs = $(sort $(foreach w,$(1),$(call word_objs,$(w))) \
            $(if $(filter shadow_vs_ept,$(1)),$(B)/cpu_presets.o))
define unit_rule
$(B)/tests/$(1): tests/unit/$(1).c $(if $(2),$(call unit_objs,$(2)),$(LIBOBJS)) $(B)/flags | $(B)/deps-check
	@mkdir -p $$(@D)
	$$(call say,TEST,$$@)
	$$(Q)$$(CC) $$(CPPFLAGS) $$(CFLAGS) -MMD -MP $$(LDFLAGS) -o $$@ $$(filter %.c %.o,$$^) $$(LDLIBS) -lcmocka
endef
$(foreach t,$(filter-out test_mutants,$(notdir $(UNIT))),$(eval $(call unit_rule,$(t),$(call unit_words,$(t)))))

# The MMU with deliberate faults (base/mutant.h), for the test that must find each.
MUTANT_OBJS := $(patsubst %.c,$(B)/mutants/%.o,$(foreach d,base guest memmgr shadow_vs_ept fuzz,$(wildcard $(d)/*.c)))
ENGINE_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard balloon/*.c vmm/*.c) workloads/script.c) $(B)/vmm/image_blob.o
$(B)/mutants/%.o: %.c $(B)/flags | $(B)/deps-check
	@mkdir -p $(@D)
	$(call say,MUTANT,$<)
	$(Q)$(CC) $(CPPFLAGS) -DNB_MUTATIONS $(CFLAGS) -O1 -MMD -MP -c -o $@ $<
$(B)/tests/test_mutants: tests/unit/test_mutants.c $(MUTANT_OBJS) $(ENGINE_OBJS) $(B)/cpu_presets.o $(B)/flags | $(B)/deps-check
	@mkdir -p $(@D)
	$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) -DNB_MUTATIONS $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LDLIBS) -lcmocka
-include $(MUTANT_OBJS:.o=.d)

.PHONY: unit-tests
unit-tests: $(UNIT)

# ---- packages ----
# Each installs what is missing when root, else says which line installs it.
.PHONY: deps
deps: $(B)/deps-build $(B)/deps-check $(B)/deps-bench  ## install (root) or name the packages that build, tests and bench need
$(B)/deps-check: | $(B)/deps-build
$(B)/deps-bench: | $(B)/deps-build $(B)/deps-check
$(B)/deps-%: tools/deps
	@mkdir -p $(@D)
	@CC='$(CC)' tools/deps $* $(if $(SAN),quiet) && touch $@

# ---- tests ----
.PHONY: check check-unit check-asan check-cli check-format check-layers check-shell
check: | $(B)/deps-check  ## all tests; the last line is the count
	+@CC='$(CC)' MAKE=$(MAKE) tools/check
check-unit: | $(B)/deps-check  ## unit tests
	+@CC='$(CC)' MAKE=$(MAKE) tools/check unit
check-asan: | $(B)/deps-check  ## unit and command-line smoke tests with AddressSanitizer and UBSan
	+@CC='$(CC)' MAKE=$(MAKE) tools/check asan
check-cli: | $(B)/deps-check  ## command-line tests
	+@CC='$(CC)' MAKE=$(MAKE) tools/check cli
check-format:  ## layout of the sources
	+@MAKE=$(MAKE) tools/check format
check-layers:  ## no upward #include
	+@MAKE=$(MAKE) tools/check layers
check-shell:  ## shellcheck over all scripts
	+@MAKE=$(MAKE) tools/check shell

# ---- fuzzing by coverage ----
#   make fuzz-mmu FUZZ_SECONDS=600      wants clang with libFuzzer; new inputs go to $(B)/corpus
.PHONY: fuzz-mmu
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -fsanitize=fuzzer,address -O1 -g -std=gnu11 -fno-strict-aliasing -I. -D_GNU_SOURCE -DNB_NO_JEMALLOC
FUZZ_OBJS := $(patsubst %.c,$(B)/fuzzer/%.o,tests/fuzz/fuzz_mmu.c \
             $(foreach d,base guest memmgr balloon shadow_vs_ept vmm fuzz,$(wildcard $(d)/*.c)) workloads/script.c)
$(B)/fuzzer/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)
	$(Q)clang $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(B)/fuzz-mmu: $(FUZZ_OBJS) $(B)/cpu_presets.c $(B)/vmm/image_blob.o
	$(Q)clang $(FUZZ_FLAGS) -o $@ $^ $(filter-out -ljemalloc,$(LDLIBS))
-include $(FUZZ_OBJS:.o=.d)
fuzz-mmu: $(B)/fuzz-mmu  ## run libFuzzer over raw programs for FUZZ_SECONDS
	@mkdir -p $(B)/corpus
	$(B)/fuzz-mmu -max_len=1024 -max_total_time=$(FUZZ_SECONDS) $(B)/corpus tests/fuzz/corpus

#   make fuzz-balloon FUZZ_RUNS=10000000      the same for the balloon's device; new inputs go to $(B)/corpus-balloon
.PHONY: fuzz-balloon
FUZZ_RUNS ?= 1000000
# Counters only: following comparisons would take half the time, and the machine's operations need no guessing.
FUZZ_BALLOON_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -O2 -g -std=gnu11 \
                      -fsanitize-coverage=inline-8bit-counters,pc-table -fno-strict-aliasing -I. -D_GNU_SOURCE -DNB_NO_JEMALLOC
FUZZ_BALLOON_OBJS := $(patsubst %.c,$(B)/fuzzer-balloon/%.o,tests/fuzz/fuzz_balloon.c vmm/virtio_mmio.c base/base.c \
                     $(addprefix balloon/,device.c device_pages.c pageset.c virtio_dev.c virtq.c))
$(B)/fuzzer-balloon/%.o: %.c
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)
	$(Q)clang $(FUZZ_BALLOON_FLAGS) -MMD -MP -c -o $@ $<
$(B)/fuzz-balloon: $(FUZZ_BALLOON_OBJS)
	$(Q)clang -fsanitize=fuzzer,address,undefined -o $@ $^
-include $(FUZZ_BALLOON_OBJS:.o=.d)
fuzz-balloon: $(B)/fuzz-balloon  ## run libFuzzer over the balloon's device for FUZZ_RUNS inputs
	@mkdir -p $(B)/corpus-balloon
	$(B)/fuzz-balloon -max_len=96 -entropic=0 -reduce_inputs=0 -runs=$(FUZZ_RUNS) $(B)/corpus-balloon $(wildcard tests/fuzz/corpus-balloon)

# ---- results ----
#   make bench RUN=<folder of results/> goes on with an interrupted run
.PHONY: bench bench-quick plots paper reference doctor
bench: all | $(B)/deps-bench  ## every experiment, into a new folder of results/
	$(B)/nestbed bench run $(if $(RUN),--resume $(RUN))
bench-quick: all | $(B)/deps-bench  ## the same in a minute
	$(B)/nestbed bench run $(if $(RUN),--resume $(RUN),--quick)
plots: all | $(B)/deps-bench  ## redraw the plots of the latest results
	$(B)/nestbed plot results/latest
paper: all | $(B)/deps-bench  ## put the latest numbers into PAPER.md
	$(B)/nestbed bench paper results/latest PAPER.md
reference: all | $(B)/deps-bench  ## after a change of counts: new results/reference and PAPER.md
	$(B)/nestbed bench run
	rm -rf results/reference
	$(B)/nestbed bench export latest results/reference
	$(B)/nestbed bench paper results/latest PAPER.md
doctor: all  ## what this machine has, and what is missing
	$(B)/nestbed doctor

# ---- install ----
.PHONY: install uninstall man dist
man: $(B)/nestbed.1  ## the manual page
$(B)/nestbed.1: $(B)/nestbed tools/man
	$(call say,MAN,$@)
	$(Q)tools/man $(B)/nestbed > $@

install: all  ## into prefix=/usr/local (and DESTDIR)
	install -d '$(DESTDIR)$(bindir)' '$(DESTDIR)$(datadir)/bash-completion/completions'
	install $(B)/nestbed '$(DESTDIR)$(bindir)/nestbed'
	ln -f '$(DESTDIR)$(bindir)/nestbed' '$(DESTDIR)$(bindir)/nestbed-bench'
	install -m 644 completions/nestbed.bash '$(DESTDIR)$(datadir)/bash-completion/completions/nestbed'
	$(if $(PLUGIN),install -d '$(DESTDIR)$(DATA)' && install -m 755 $(PLUGIN) '$(DESTDIR)$(DATA)/')
	$(if $(STATIC),[ ! -e $(STATIC) ] || { install -d '$(DESTDIR)$(DATA)' && install -m 755 $(STATIC) '$(DESTDIR)$(DATA)/'; })
	$(if $(TRACES),install -d '$(DESTDIR)$(DATA)/traces' && install -m 644 $(TRACES) '$(DESTDIR)$(DATA)/traces/')
	@if command -v help2man > /dev/null; then \
	    $(MAKE) --no-print-directory man && install -d '$(DESTDIR)$(datadir)/man/man1' && \
	    install -m 644 $(B)/nestbed.1 '$(DESTDIR)$(datadir)/man/man1/nestbed.1'; \
	else echo 'no manual page: help2man is missing (apt-get install help2man)'; fi

uninstall:  ## remove what install put there
	rm -f '$(DESTDIR)$(bindir)/nestbed' '$(DESTDIR)$(bindir)/nestbed-bench' \
	    '$(DESTDIR)$(datadir)/bash-completion/completions/nestbed' '$(DESTDIR)$(datadir)/man/man1/nestbed.1'
	rm -rf '$(DESTDIR)$(DATA)'

dist:  ## nestbed-VERSION.tar.gz of the committed tree
	@mkdir -p $(B)
	@git describe --always --abbrev=7 > $(B)/.git-version
	git archive --prefix=nestbed-$(VERSION)/ --add-file=$(B)/.git-version -o $(B)/nestbed-$(VERSION).tar.gz HEAD

.PHONY: help clean distclean
help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1\t\2/p' Makefile | expand -t 18

clean:  ## remove what was built
	rm -rf build build-*
distclean: clean  ## and what was downloaded; results stay
	rm -rf .cache results/latest

-include $(OBJS:.o=.d) $(UNIT:%=%.d) $(IMAGE_KERNEL:.o=.d) $(IMAGE_USER:.o=.d)
