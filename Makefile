# SPDX-License-Identifier: GPL-2.0-only
# For people; kernel/Kbuild has the objects. `make help` lists the targets.
#
#   KVER=  a kernel to build for or test on: a release, a version that
#          kernel/compat/tested.h names, or debug-VERSION; for the tests also
#          several, separated by blanks
#   TEST=  one test of tests/vm, or several
#   FAULT= a fault of tests/faults, or several
#   DESTDIR=, PREFIX=  for install and uninstall

BUILD := $(CURDIR)/build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

export KVER TEST FAULT

.DEFAULT_GOAL := all
.PHONY: all modules tools demo check check-once check-quick check-debug crash crash-quick
.PHONY: interposer-full copy-full bench bench-maint fuzz fuzz-maint faults lint format install uninstall dkms-install debug-kernels
.PHONY: install-deps clean help

all: modules tools

modules: ## build the kernel modules: build/modules/<release>/
	@scripts/build-modules $(KVER)

tools: ## build the programs, tests included: build/bin/
	@cmake -S userspace -B $(BUILD)/cmake -G Ninja -DLIVEBLK_TESTS=ON >$(BUILD)/.cmake.log 2>&1 || \
		{ cat $(BUILD)/.cmake.log; exit 1; }
	@flock $(BUILD)/.tools.lock cmake --build $(BUILD)/cmake --parallel $(JOBS) -- --quiet

# One of them, and not what only the tests need; without rebuilding for what was configured before.
tool-%: | $(BUILD)
	@[ -e $(BUILD)/cmake/build.ninja ] || cmake -S userspace -B $(BUILD)/cmake -G Ninja -DLIVEBLK_TESTS=OFF >$(BUILD)/.cmake.log 2>&1 || \
		{ cat $(BUILD)/.cmake.log; exit 1; }
	@flock $(BUILD)/.tools.lock cmake --build $(BUILD)/cmake --target $* --parallel $(JOBS) -- --quiet

tools: | $(BUILD)
$(BUILD):
	@mkdir -p $@

demo: ## show dm-qcow2 at work in a VM, from nothing
	@scripts/demo

check: ## every test on both kernels; TEST=name KVER=version for one
	@scripts/install-deps
	@scripts/run-tests

check-once: ## every test on one kernel; the commit decides on which
	@scripts/install-deps
	@scripts/run-tests --once

check-quick: ## the tests of the debug pass, on the newer kernel
	@scripts/run-tests --quick

check-debug: debug-kernels ## the VM tests on the debug kernels, with a scan for leaks
	@scripts/run-tests --debug

crash: ## replay at least 10,000 crash points
	@scripts/run-campaign crash

crash-quick: ## replay at least 300 crash points
	@scripts/run-campaign crash-quick

interposer-full: ## attach and detach every target 200 times under load (hours)
	@LIVEBLK_FULL=1 LIVEBLK_KEEP_LOGS=1 scripts/run-tests interposer-cycles

copy-full: ## four million operations on loop-copy and null-copy (hours)
	@LIVEBLK_FULL=1 LIVEBLK_KEEP_LOGS=1 scripts/run-tests copy-check

bench: ## instruction time of dm-qcow2 beside loop, dm-linear and qemu-nbd
	@scripts/run-bench

bench-maint: tools ## qcow2-maint beside qemu-img on images of up to 1 TiB
	@scripts/run-bench-maint

fuzz: ## thousands of hostile images and of random geometries
	@scripts/run-campaign fuzz

fuzz-maint: ## 20,000 mutated images through qcow2-maint, with sanitizers and libFuzzer
	@scripts/fuzz-maint 20000

faults: ## plant known faults, one at a time, and see that the tests catch them; FAULT=name for one
	@scripts/run-faults

lint: modules ## checkpatch, sparse, clang-format, shellcheck and our own rules
	@scripts/lint

format: ## clang-format the C++ sources
	@git ls-files '*.cpp' '*.hpp' | xargs -r clang-format -i

debug-kernels: ## build the debug kernels into the cache (10 minutes each, once)
	@scripts/debug-kernel

install-deps: ## install the Debian packages that are missing
	@scripts/install-deps

install: modules tools ## install the modules, tools and man pages under DESTDIR
	@scripts/install install "$(DESTDIR)" "$(PREFIX)"

uninstall: ## remove what install put there
	@scripts/install uninstall "$(DESTDIR)" "$(PREFIX)"

dkms-install: ## let DKMS build the modules for this and every later kernel
	@scripts/install dkms

clean: ## remove build/
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
