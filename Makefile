# The front door: every target sets up what it needs. Behind it stand CMake's presets, usable without make.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SOURCES = $(shell git ls-files --cached --others --exclude-standard '*.h' '*.cpp')
LACAKE = build/release/cli/lacake

.PHONY: help demo test build setup format lint asan tsan clean distclean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: build  ## one long text under five policies: memory, speed, quality
	@python3 scripts/demo.py --program $(LACAKE) --model "$$(scripts/get-model --path)"

# The long runs take tens of minutes: ctest --preset release -L 'golden-long|parity-long'
test: setup  ## build everything, run the tests (LACAKE_WERROR=ON: warnings are errors)
	@scripts/build release
	@ctest --preset release -LE 'golden-long|parity-long|soak' --no-label-summary

build: setup  ## build the program: build/release/cli/lacake
	@scripts/build release lacake_cli

setup:  ## system packages, ggml and libllama, the embedded model
	@scripts/setup

asan: setup  ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/build asan
	@ctest --preset asan -LE 'golden-long|parity-long|soak' --no-label-summary

# ThreadSanitizer's shadow memory clashes with much address randomisation, so it is switched off where that is allowed.
tsan:  ## the tests under ThreadSanitizer
	@scripts/setup --tsan
	@scripts/build tsan
	@$$(setarch -R true 2>/dev/null && echo setarch -R) ctest --preset tsan -LE 'golden-long|parity-long|soak' --no-label-summary

format:  ## apply clang-format
	@clang-format -i $(SOURCES)

lint: build  ## clang-format and clang-tidy, as complaints
	@clang-format --dry-run -Werror $(SOURCES)
	@clang-tidy --quiet -p build/release $(filter-out examples/% cmake/%,$(filter %.cpp,$(SOURCES)))

clean:  ## remove the builds, keep ggml and libllama
	@rm -rf build/release build/debug build/asan build/tsan

distclean:  ## remove everything built
	@rm -rf build
