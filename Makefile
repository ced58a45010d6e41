# make demo   serve real programs and a page for them, in the foreground
# make editor serve a language server and a debugger for Python to editors, and to a page
# make chat   serve a chat to browsers and terminals, with its own server
# make unroll serve a compiler that unrolls loops, and a page for it
# make orders serve a program with services of the program that starts it
# make check  run the linters and the tests that start no server, browser or machine:
#             2 minutes (the first run is longer, because mypy reads every library)
# make test   run all tests against the built wheel (some of them: ARGS="-k relay")
# make coverage   the same with branch coverage, also that of the programs under test
# make bench  run all benchmarks, write tests/bench/RESULTS.md and README.md, and run
#             the tests with a full size at that size. Best as root on an idle machine
# make attack run all attacks on a server on loopback, and print what others noticed:
#             15 minutes (some of them: ARGS="pings silent"; their names: ARGS=--list)
# make pictures  make the pictures of README.md
# make access run the long flows of logins and certificates through other programs:
#             2 minutes (some of them: ARGS="-k certbot")
# make fleet  run the tests of several hosts, engines, packages and images, as root:
#             some of them with ARGS="-k hosts"
# make fuzz   fuzz each parser for 20 seconds (ARGS="frames 60": one of them, for 60)
# make dist   write to dist/ what indexes take, and check it: the source, a wheel with
#             the C extension, a pure one for the systems that cannot load that, and the
#             npm package
# make deb    write a Debian package for this release and architecture to dist/
# make image  make the image chimirror for containers: examples/fleet/image.sh
# make install, make uninstall   as root on a systemd host: programs, units, manual pages
#
# Each target works on a fresh machine. Missing Python packages are installed into
# .venv. Missing system packages are installed by root on Debian, otherwise named.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# On a terminal, pip shows its progress.
PIP := $(BIN)/python -m pip $(shell [ -t 2 ] || echo --quiet) --disable-pip-version-check
# The pip of Debian 12 warns about another way to install sdnotify.
export PIP_USE_PEP517 := 1

TOOLS := apache2-utils busybox-static chromium-headless-shell dbus \
	default-jre-headless gnucobol haproxy htop iproute2 less libnss-systemd mandoc \
	neovim nginx-light nodejs openssh-client openssh-server perl pipx procps \
	python3-systemd python3-venv shellcheck socat sslscan systemd tmux vim \
	websocketd xinetd zsh
# To compile systemd-python, which has no wheels.
LIBRARIES := gcc libc6-dev libsystemd-dev pkgconf python3-dev
# Compiles the extension for another architecture.
CROSS := gcc-aarch64-linux-gnu libc6-dev-arm64-cross

# An authority of certificates and its client, and a proxy with a login by OpenID.
ACCESS := apache2 certbot libapache2-mod-auth-openidc pebble

# Build the Debian package, which has the libraries of the package index.
DEB := build-essential debhelper python3-dev python3-venv
IMAGE := buildah mmdebstrap

# More than one machine: the balancer is in TOOLS.
FLEET := $(DEB) $(IMAGE) busybox-static catatonit containernetworking-plugins iproute2 \
	iptables lintian munge openssh-client openssh-server podman prometheus \
	qemu-system-x86 runc slurm-client slurmctld slurmd systemd-journal-remote

# npm packages that check manifests (the one-file build of the parser has no
# dependencies), the types of chimirror.js, the console, and that web/vendor equals
# the published files.
NPM_PACKAGES := @asyncapi/parser@3.6.3 @asyncapi/specs@6.11.1 typescript@5.9.3 \
	axe-core@4.14.1 @xterm/xterm@6.0.0 @xterm/addon-fit@0.11.0 \
	@xterm/addon-unicode-graphemes@0.4.0 vscode-jsonrpc@10.0.0
# npm packages with their dependencies, in node_modules of the same directory: foreign
# clients of served programs.
NPM_PROGRAMS := @agentclientprotocol/sdk@2.4.0 zod@4.6.7 \
	@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 ws@8.23.0 \
	@vscode/debugadapter-testsupport@1.68.0 vscode-ws-jsonrpc@3.5.0
# An OpenID provider, in a directory of its own.
NPM_ACCESS := oidc-provider@9.13.3
# Version 2 of Python's SDK for MCP, which excludes version 1, in a directory of its own.
MCP_2 := mcp==2.3.0

# Twice the number of cores, because most tests wait for other programs.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder \
	--no-skips --durations=10
CHECK := tests/unit tests/repo
# Compiles the tests before several workers would each do it. The run tells an error.
COMPILE = printf '%s\n' unit programs browser systemd repo | xargs -P "$$(nproc)" \
	-I '{}' $(BIN)/pytest -q --collect-only 'tests/{}' >/dev/null 2>&1 || :
unexport PYTHONDONTWRITEBYTECODE

# The interpreter of the system: a service cannot read one in a home directory.
HOST_PYTHON ?= /usr/bin/python3
HOST := /opt/chimirror

.PHONY: demo editor chat unroll orders check test coverage wheel bench attack access fleet fuzz \
	pictures dist deb image install uninstall clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(MAKE) -s -C examples factor ledger
	@echo 'Open http://127.0.0.1:30747/ in a browser, or play a game in another terminal:'
	@echo
	@echo '    $(CURDIR)/$(BIN)/chimirror-connect ws://127.0.0.1:30747/animals'
	@echo
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec chimirror-server --console --apps examples

# A separate server serves the page. A signal ends it with chimirror-server.
editor: $(VENV)/.editor
	@rm -rf build/editor
	@mkdir -p build/editor
	@cp examples/editor/*.html examples/editor/*.css examples/editor/*.js \
		chimirror/web/chimirror.js chimirror/web/icon.svg build/editor
	@echo 'Open http://127.0.0.1:30748/ in a browser.'
	@echo 'Editors connect to ws://127.0.0.1:30747/pylsp and /debugpy: see examples/editors.'
	@echo 'Every client of port 30747 can do on this machine what you can.'
	@setpriv --pdeathsig TERM $(BIN)/python -m http.server --bind 127.0.0.1 \
		--directory build/editor 30748 >/dev/null & \
		PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/chimirror-server --apps examples/editor

# A signal ends the chat server with chimirror-server.
chat: $(VENV)/.demo
	@$(MAKE) -s -C examples chat PYTHON=$(CURDIR)/$(BIN)/python
	@echo 'Open http://127.0.0.1:30747/ in two windows of a browser, and join from a terminal:'
	@echo
	@echo '    $(CURDIR)/$(BIN)/chimirror-connect ws://127.0.0.1:30747/chat_terminal'
	@echo
	@PATH="$(CURDIR)/$(BIN):$$PATH"; export PATH; \
		setpriv --pdeathsig TERM examples/chat/chat server 30749 & \
		exec chimirror-server --console --apps examples/chat

unroll: $(VENV)/.demo
	@.ci/packages gcc libc6-dev
	@$(MAKE) -s -C examples $@
	@echo 'Open http://127.0.0.1:30747/ in a browser.'
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec chimirror-server --console --apps examples/unroll

orders: $(VENV)/.orders
	@.ci/packages gcc libc6-dev
	@$(MAKE) -s -C examples orders
	@echo 'Open http://127.0.0.1:30747/ in a browser, or order in another terminal:'
	@echo
	@echo '    $(CURDIR)/$(BIN)/chimirror-connect ws://127.0.0.1:30747/orders'
	@echo
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec chimirror-server --console \
		--apps examples/services

check: wheel
	@echo 'running the tests'
	@$(PYTEST) $(CHECK) $(ARGS)

test: wheel
	@echo 'running the tests'
	@$(COMPILE)
	@$(PYTEST) $(COVERAGE) $(ARGS)

# Not part of `make test`: every start of a Python takes several times as long.
coverage: COVERAGE := --cov --cov-report=term
coverage: test

wheel: $(VENV)/.test $(VENV)/npm $(VENV)/mcp-2
	@.ci/packages $(TOOLS) $(CROSS)
	@rm -rf build/wheel
	@echo 'building the wheel and installing it into $(VENV)'
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(PIP) install --force-reinstall --no-deps build/wheel/*.whl

bench: $(VENV)/.test
	@.ci/packages $(TOOLS) gcc libc6-dev websockify
	@$(PIP) install --force-reinstall --no-deps --no-build-isolation .
	@rm -rf build/bench
	@for each in tests/bench/bench_*.py; do \
		began=$$(date +%s); $(BIN)/python -P $$each || missed=1; \
		echo "($$each: $$(($$(date +%s) - began)) s)"; echo; done; \
		$(BIN)/pytest --full -m full || missed=1; \
		$(BIN)/python -P tests/bench/report.py && exit $${missed:-0}

attack: $(VENV)/.test
	@$(PIP) install --force-reinstall --no-deps --no-build-isolation .
	@$(BIN)/python -P tests/attack/attack.py $(ARGS)

access: wheel $(VENV)/npm-access
	@.ci/packages $(ACCESS)
	@$(PIP) install '.[access]'
	@$(PYTEST) tests/access $(ARGS)

fleet: wheel
	@.ci/packages $(FLEET)
	@.ci/kernel build/kernel
	@$(PIP) install '.[fleet]'
	@# One after the other: each takes the machine. What passed tells its figures.
	@$(PYTEST) -n 1 -rP tests/fleet $(ARGS)

fuzz: $(VENV)/.test
	@$(PIP) install --force-reinstall --no-deps --no-build-isolation .
	@$(PIP) install '.[fuzz]'
	@$(MAKE) -s -C examples chat PYTHON=$(CURDIR)/$(BIN)/python
	@$(BIN)/python -P tests/fuzz/fuzz.py $(ARGS)

pictures: wheel
	@PICTURES=1 $(BIN)/pytest tests/browser/test_pictures.py

dist: $(VENV)/.test
	@rm -rf dist
	@$(BIN)/python -m hatchling build
	@CC=false $(BIN)/python -m hatchling build -t wheel
	@$(BIN)/auditwheel show dist/*-manylinux_*.whl
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/npm pack --silent --pack-destination dist ./chimirror/web

deb:
	@.ci/packages $(DEB)
	@systemd/debian/build

image: deb
	@.ci/packages $(IMAGE)
	@echo 'making the image'
	@examples/fleet/image.sh build/deb/chimirror_*.deb chimirror

install:
	@.ci/packages python3-systemd python3-venv
	@echo 'installing chimirror into $(HOST)'
	@umask 022; $(HOST_PYTHON) -m venv $(HOST)
	@umask 022; $(HOST)/bin/python -m pip --quiet --disable-pip-version-check install --upgrade .
	@echo 'installing programs, units and manual pages'
	@$(HOST)/share/chimirror/systemd/setup install $(HOST_PYTHON)
	@echo 'to start: systemctl enable --now chimirror.socket'

uninstall:
	@$(HOST)/share/chimirror/systemd/setup uninstall

$(VENV)/.python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/packages python3-venv
	@echo 'creating $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The demo runs the installed package: reinstall when a file of it has changed.
$(VENV)/.demo: $(VENV)/.python pyproject.toml $(shell find chimirror -type f ! -name '*.pyc')
	@echo 'installing chimirror and the libraries of its examples into $(VENV)'
	@$(PIP) install '.[examples]'
	@touch $@

$(VENV)/.editor: $(VENV)/.demo
	@echo 'installing a language server and a debugger into $(VENV)'
	@$(PIP) install debugpy 'python-lsp-server[pyflakes]'
	@touch $@

$(VENV)/.orders: $(VENV)/.demo
	@echo 'installing the library of services into $(VENV)'
	@$(PIP) install '.[services]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	@.ci/packages $(LIBRARIES)
	@echo 'installing chimirror and the libraries of the tests into $(VENV)'
	@$(PIP) install '.[test]'
	@touch $@

$(VENV)/npm: $(VENV)/.test Makefile
	@rm -rf $@ build/npm
	@mkdir -p build/npm
	@echo 'fetching $(words $(NPM_PACKAGES)) npm packages into $@'
	@$(BIN)/npm pack --silent --pack-destination build/npm $(NPM_PACKAGES) >/dev/null
	@for each in build/npm/*.tgz; do \
		mkdir $${each%-*} && tar -xf $$each -C $${each%-*} --strip-components 1 || exit; \
		done
	@$(BIN)/npm install --loglevel=error --no-audit --no-fund --no-save \
		--no-package-lock --ignore-scripts --prefix build/npm $(NPM_PROGRAMS) >/dev/null
	@mv build/npm $@

$(VENV)/npm-access: $(VENV)/.test Makefile
	@rm -rf $@ build/npm-access
	@mkdir -p build/npm-access
	@$(BIN)/npm install --loglevel=error --no-audit --no-fund --no-save \
		--no-package-lock --ignore-scripts --prefix build/npm-access $(NPM_ACCESS) \
		>/dev/null
	@mv build/npm-access $@

$(VENV)/mcp-2: $(VENV)/.test Makefile
	@rm -rf $@ build/mcp-2
	@$(PIP) install --target build/mcp-2 '$(MCP_2)'
	@mv build/mcp-2 $@

clean:
	rm -rf $(VENV) build dist .coverage* .*_cache .hypothesis
