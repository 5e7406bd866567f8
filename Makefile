# The front door: every target sets up what it needs. Behind it stand CMake's presets, usable without make.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SOURCES = $(shell git ls-files --cached --others --exclude-standard '*.h' '*.cpp')
LACAKE = build/release/cli/lacake
LONG = golden-long|parity-long|soak

PREFIX = /usr/local

.PHONY: help demo test build install package test-package portable setup setup-tests format lint asan tsan clean distclean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22

demo: build  ## one long text under five policies: memory, speed, quality
	@python3 scripts/demo.py --program $(LACAKE) --model "$$(scripts/get-model --path)"

# The long runs take tens of minutes: ctest --preset release -L 'golden-long|parity-long'
test: setup-tests  ## build everything, run the tests (LACAKE_WERROR=ON: warnings are errors)
	@scripts/build release
	@scripts/test release -LE '$(LONG)'

build: setup  ## build the program: build/release/cli/lacake
	@scripts/build release lacake_cli

# What others run: ggml's CPU backend as modules, eight for x86. `make build` compiles that of this machine alone.
portable:
	@scripts/setup --portable
	@scripts/build portable

install: portable  ## the program, library, headers, man pages, completions; PREFIX=/usr/local, DESTDIR
	@cmake --install build/portable --prefix "$(PREFIX)" >build/_logs/install.log
	@echo "installed under $(DESTDIR)$(PREFIX)"

package: portable  ## Debian packages, build/lacake_*.deb and build/liblacake-dev_*.deb
	@scripts/quietly build/_logs/package.log cpack --config build/portable/CPackConfig.cmake -B build/portable/packages
	@rm -f build/*.deb && cp build/portable/packages/*.deb build/ && ls build/*.deb

test-package: package  ## install the packages in an empty Debian; run there, and on a processor without AVX
	@scripts/test-package

setup:  ## system packages, ggml and libllama, the embedded model
	@scripts/setup

# The suites on long real texts would take hours here; short ones in their place run the same code.
asan: setup-tests  ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/build asan
	@scripts/test asan -LE '$(LONG)|golden-real|parity-real'

# ThreadSanitizer's shadow memory clashes with much address randomisation, so it is switched off where that is allowed.
tsan:  ## the tests under ThreadSanitizer
	@scripts/setup --tsan
	@scripts/build tsan
	@$$(setarch -R true 2>/dev/null && echo setarch -R) scripts/test tsan -LE '$(LONG)|golden-real|parity-real'

setup-tests:
	@scripts/setup --tests

format:  ## apply clang-format
	@clang-format -i $(SOURCES)

# Of the preset debug, where each source is compiled by itself.
lint: setup  ## clang-format and clang-tidy, as complaints
	@clang-format --dry-run -Werror $(SOURCES)
	@scripts/quietly build/_logs/debug-configure.log cmake --preset debug
	@clang-tidy --quiet -p build/debug $(filter-out examples/% cmake/%,$(filter %.cpp,$(SOURCES)))

clean:  ## remove the builds, keep ggml and libllama
	@rm -rf build/release build/portable build/debug build/asan build/tsan

distclean:  ## remove everything built
	@rm -rf build
