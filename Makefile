# make demo    the main job on real libvirt and QEMU: blocked with the reason, then mended and done
# make test    everything: style, types, unit, conformance and system tests, and a real VFIO host in a virtual machine
# make test-newest  the same with the newest tools, to see what an upgrade would break; make lock: renews the pins
# make conformance N=5000  model and real QEMU judge that many pairs, on two releases and between them; ARCH=aarch64: Arm
# make devices every emulated device, migrated between two releases of QEMU; renews docs/DEVICES.md
# make guests  guests of the sorts people run, between hosts of two releases of libvirt, started on either
# make doctor-test  every fault of docs/DOCTOR.md in each of its forms, planted and mended
# make vm-test the scenarios of a real VFIO host in a virtual machine, with every kernel, STARTS=200 cold starts among
#              them; make vm KERNEL=newest: a shell
# make bench   what the hook costs, as ratios within one run, and the model's rates; bench-images: reading save images
# make findings  renews docs/FINDINGS.md and docs/DOCTOR.md, every finding and fault as it is printed
# make deb, make rpm  the package of this distribution, in build/; package-test: both, in clean Debian 12 and 13
# make install the hook and the command on this host (DESTDIR to stage)

VENV = .venv
PYTHON = $(VENV)/bin/python
CODE = plugin tests hooks etc packages
ARCH = x86_64

.PHONY: setup demo test test-newest lock lint unit conformance conformance-tests system system-hosts system-guests
.PHONY: vm vm-release vm-test
.PHONY: bench bench-images devices guests doctor-test findings deb rpm packages package-test install clean

setup:
	@tests/setup-debian $(VENV)

demo: setup
	@$(PYTHON) -I tests/demo.py

# Two suites at a time, the longest first; of each, what it prints comes when it has ended.
test: setup
	$(MAKE) --jobs=2 --keep-going --output-sync=target system-guests system-hosts conformance-tests vm-release unit \
		packages lint

test-newest:
	$(MAKE) test VENV=.venv-newest

lock:
	tests/lock

lint: setup
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/mypy

unit: setup
	$(PYTHON) -m pytest tests/unit

conformance-tests: setup
	$(PYTHON) -m pytest tests/conformance

# N pairs for each emulator of ARCH, the machine's own and the newest that its archive has, and for each two in either
# direction.
conformance: setup
	PYTHONPATH=plugin:tests $(PYTHON) -W ignore -m conformance --n $(or $(N),1000) --masks \
		--emulator /usr/bin/qemu-system-$(ARCH) --emulator "$$(tests/other-qemu newest $(ARCH))"

# Of ARCH=aarch64 the page stays as it is: it is the PC's.
devices: setup
	PYTHONPATH=plugin:tests $(PYTHON) -W ignore -m conformance.devices --arch $(ARCH) \
		--emulator /usr/bin/qemu-system-$(ARCH) --emulator "$$(tests/other-qemu newest $(ARCH))" \
		$(if $(filter x86_64,$(ARCH)),--page docs/DEVICES.md)
	DRIVEN=all $(PYTHON) -m pytest tests/conformance/test_driven.py

guests: setup
	GUESTS=all $(PYTHON) -m pytest tests/system/test_guests.py

system: setup
	$(PYTHON) -m pytest tests/system

# The same in two halves that take about as long: what an operator runs on a host, and all else.
HOSTS = $(patsubst %,tests/system/test_%.py,destinations doctor history install kill_points kills orphans watch)

system-hosts: setup
	$(PYTHON) -m pytest $(HOSTS)

system-guests: setup
	$(PYTHON) -m pytest tests/system $(HOSTS:%=--ignore=%)

packages: setup
	$(PYTHON) -m pytest tests/packages

doctor-test: setup
	DOCTOR_EVERY=1 $(PYTHON) -m pytest tests/system/test_doctor.py

# A real VFIO host in a virtual machine: some scenarios with the release's kernel, or all of them with all kernels. The
# former leave out that of the two gates: AppArmor's has a migration refused at either gate and by QEMU, and mended.
vm-release: setup
	$(PYTHON) -m pytest tests/vm -k "apparmor or evidence or atomic"

vm-test: setup
	VM_KERNELS="release backports newest" VM_STARTS=$(or $(STARTS),200) VM_APPARMOR=full $(PYTHON) -m pytest tests/vm

bench: setup
	@$(PYTHON) tests/bench.py

bench-images: setup
	@$(PYTHON) tests/bench_images.py

# Coverage-guided fuzzing of the hook's standard input; 1000000 runs take some twenty minutes.
fuzz: setup
	@tests/fuzz/run $(or $(RUNS),100000)

vm: setup
	@kernel=$$(tests/vm/kernel $(or $(KERNEL),release)) && tests/vm/build-module "$$kernel" && \
		PYTHONPATH=tests exec $(PYTHON) -m vm.run "$$kernel"

findings: setup
	PYTHONPATH=plugin:tests $(PYTHON) -m unit.findings_page >docs/FINDINGS.md.new
	mv docs/FINDINGS.md.new docs/FINDINGS.md
	PYTHONPATH=plugin:tests $(PYTHON) -m unit.doctor_page >docs/DOCTOR.md.new
	mv docs/DOCTOR.md.new docs/DOCTOR.md

deb:
	packages/build-deb

rpm:
	packages/build-rpm

# Everything that tests/packages tries, in roots that debootstrap makes of the machine's own archive.
package-test: setup
	tests/packages/in-clean-roots $(or $(RELEASES),bookworm trixie)

install:
	PYTHONPATH=plugin /usr/bin/python3 -m vfio_preflight install --root "$(or $(DESTDIR),/)"

clean:
	rm -rf .venv .venv-newest .components .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find plugin tests -name __pycache__ -prune -exec rm -r {} +
