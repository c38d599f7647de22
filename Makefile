# PG_CONFIG=/path/to/pg_config chooses the Postgres; without it scripts/lib.sh finds one and says which.
# make check PG=17 checks on that major in a chroot of its own.

SHELL := /bin/bash
export PG_CONFIG
PG ?=

.PHONY: help setup build install check bench demo demo-kafka demo-stop clean

help:
	@echo 'make setup      install what is missing: packages, Rust, cargo-pgrx'
	@echo 'make build      compile the extension, optimized'
	@echo 'make install    put it into the Postgres that PG_CONFIG names'
	@echo 'make check      every test; PG=17 runs them on that major in a chroot'
	@echo "make bench      speed against COPY, native replication and Debezium's JDBC sink"
	@echo 'make demo       three upstreams followed live for a minute; KEEP=1 leaves them up'
	@echo 'make demo-kafka the same with MariaDB, Debezium and Kafka as the upstream'
	@echo 'make demo-stop  stop what KEEP=1 left'
	@echo 'make clean      remove what was built'

setup:
	@scripts/setup.sh

build:
	@scripts/build.sh

install:
	@scripts/build.sh install

check:
ifeq ($(PG),)
	@scripts/check.sh
else
	@scripts/chroot.sh $(PG) scripts/check.sh
endif

bench:
	@scripts/bench.sh

demo:
	@scripts/setup.sh
	@scripts/build.sh install
	@demo/demo.sh

demo-kafka:
	@scripts/setup.sh
	@scripts/kafka-parts.sh demo
	@scripts/build.sh install
	@demo/kafka/kafka.sh

demo-stop:
	@demo/demo.sh stop
	@demo/kafka/kafka.sh stop

clean:
	cargo clean
	rm -rf .scratch pg_regress/results
