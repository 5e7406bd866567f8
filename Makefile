# The front door: every target sets up what it needs. Behind it stand CMake's presets, usable without make.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SOURCES = $(shell git ls-files --cached --others --exclude-standard '*.h' '*.cpp')
LACAKE = build/release/cli/lacake
LONG = golden-long|parity-long|soak

.PHONY: help demo test build setup setup-tests format lint asan tsan clean distclean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: build  ## one long text under five policies: memory, speed, quality
	@python3 scripts/demo.py --program $(LACAKE) --model "$$(scripts/get-model --path)"

# The long runs take tens of minutes: ctest --preset release -L 'golden-long|parity-long'
test: setup-tests  ## build everything, run the tests (LACAKE_WERROR=ON: warnings are errors)
	@scripts/build release
	@ctest --preset release -LE '$(LONG)' --no-label-summary

build: setup  ## build the program: build/release/cli/lacake
	@scripts/build release lacake_cli

setup:  ## system packages, ggml and libllama, the embedded model
	@scripts/setup

# The suites on long real texts would take hours here; short ones in their place run the same code. What is skipped is
# printed with its reason.
asan: setup-tests  ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/build asan
	@status=0; ctest --preset asan -LE '$(LONG)|golden-real|parity-real' --no-label-summary || status=$$?; scripts/skipped build/asan; exit $$status

# ThreadSanitizer's shadow memory clashes with much address randomisation, so it is switched off where that is allowed.
tsan:  ## the tests under ThreadSanitizer
	@scripts/setup --tsan
	@scripts/build tsan
	@status=0; $$(setarch -R true 2>/dev/null && echo setarch -R) ctest --preset tsan -LE '$(LONG)|golden-real|parity-real' \
	  --no-label-summary || status=$$?; scripts/skipped build/tsan; exit $$status

setup-tests:
	@scripts/setup --tests

format:  ## apply clang-format
	@clang-format -i $(SOURCES)

lint: build  ## clang-format and clang-tidy, as complaints
	@clang-format --dry-run -Werror $(SOURCES)
	@clang-tidy --quiet -p build/release $(filter-out examples/% cmake/%,$(filter %.cpp,$(SOURCES)))

clean:  ## remove the builds, keep ggml and libllama
	@rm -rf build/release build/debug build/asan build/tsan

distclean:  ## remove everything built
	@rm -rf build
