# make demo   real programs as WebSocket services and a page for them, in the foreground
# make editor a language server for Python, and a page to edit with it
# make test   everything that is checked, against the built wheel (ARGS="-k relay" for some)
# make bench  everything that is measured, into tests/bench/RESULTS.md and README.md;
#             15 minutes, best as root and on an idle machine
# make install, make uninstall   as root on a systemd host: programs, units, manual pages
#
# Each works on a fresh machine: what is missing goes into .venv, and what only the
# system can provide is installed where this is Debian and root runs it, else named.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

TOOLS := busybox-static chromium dbus default-jre-headless gnucobol haproxy htop \
	iproute2 less libnss-systemd mandoc nginx-light nodejs perl python3-systemd \
	python3-venv qemu-system-x86 shellcheck socat systemd tmux vim websocketd \
	xinetd zsh
# For systemd-python, which is compiled where it is installed.
LIBRARIES := gcc libc6-dev libsystemd-dev pkgconf python3-dev

# What judges manifests (the parser's one-file build, so that nothing else is needed)
# the types of chimirror.js, the console, and that web/vendor is what was published.
JUDGES := @asyncapi/parser@3.6.3 @asyncapi/specs@6.11.1 typescript@5.9.3 \
	axe-core@4.14.1 @xterm/xterm@6.0.0 @xterm/addon-fit@0.11.0

# A service cannot use an interpreter in somebody's home: the system's own.
HOST_PYTHON ?= /usr/bin/python3
HOST := /opt/chimirror

.PHONY: demo editor test bench install uninstall clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(MAKE) -s -C examples
	@echo 'Open http://127.0.0.1:30747/ in a browser; or play a game in another terminal:'
	@echo
	@echo '    $(CURDIR)/$(BIN)/chimirror-connect ws://127.0.0.1:30747/animals'
	@echo
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec chimirror-server --console --apps examples

# The page is another's than the sessions: its server goes when ours does.
editor: $(VENV)/.editor
	@rm -rf build/editor
	@mkdir -p build/editor
	@cp examples/editor/*.html examples/editor/*.css examples/editor/*.js \
		chimirror/web/chimirror.js chimirror/web/icon.svg build/editor
	@echo 'Open http://127.0.0.1:30748/ in a browser.'
	@echo 'Whoever can connect to port 30747 of this machine can do there what you can.'
	@setpriv --pdeathsig TERM $(BIN)/python -m http.server --bind 127.0.0.1 \
		--directory build/editor 30748 >/dev/null & \
		PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/chimirror-server --apps examples/editor

test: $(VENV)/.test $(VENV)/npm
	@.ci/packages $(TOOLS)
	@.ci/kernel build/kernel
	@rm -rf build/wheel
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(PIP) install --force-reinstall --no-deps build/wheel/*.whl
	@$(BIN)/pytest --no-skips --cov --cov-report=term $(ARGS)

bench: $(VENV)/.test
	@.ci/packages $(TOOLS) gcc libc6-dev websockify
	@$(PIP) install --force-reinstall --no-deps --no-build-isolation .
	@rm -rf build/bench
	@for each in tests/bench/bench_*.py; do \
		began=$$(date +%s); $(BIN)/python -P $$each || missed=1; \
		echo "($$each: $$(($$(date +%s) - began)) s)"; echo; done; \
		$(BIN)/python -P tests/bench/report.py && exit $${missed:-0}

install:
	@.ci/packages python3-systemd python3-venv
	@$(HOST_PYTHON) -m venv $(HOST)
	@$(HOST)/bin/python -m pip --quiet --disable-pip-version-check install --upgrade .
	@$(HOST)/share/chimirror/systemd/setup install $(HOST_PYTHON)
	@echo 'to begin: systemctl enable --now chimirror.socket'

uninstall:
	@$(HOST)/share/chimirror/systemd/setup uninstall

$(VENV)/.python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/packages python3-venv
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The demo runs what stands in the tree, as it was when pip last saw it.
$(VENV)/.demo: $(VENV)/.python pyproject.toml $(shell find chimirror -type f ! -name '*.pyc')
	@echo 'installing into $(VENV)'
	@$(PIP) install '.[examples]'
	@touch $@

$(VENV)/.editor: $(VENV)/.demo
	@$(PIP) install 'python-lsp-server[pyflakes]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	@.ci/packages $(LIBRARIES)
	@echo 'installing into $(VENV)'
	@$(PIP) install '.[test]'
	@touch $@

$(VENV)/npm: $(VENV)/.test Makefile
	@rm -rf $@ build/npm
	@mkdir -p build/npm
	@$(BIN)/npm pack --silent --pack-destination build/npm $(JUDGES) >/dev/null
	@for each in build/npm/*.tgz; do \
		mkdir $${each%-*} && tar -xf $$each -C $${each%-*} --strip-components 1 || exit; \
		done
	@mv build/npm $@

clean:
	rm -rf $(VENV) build dist .coverage* .*_cache .hypothesis
