#!/usr/bin/env bash
# Every test there is, a summary last. Works as root, where servers run as `postgres`, and as anyone.
#
#   TIERS="fmt unit outside" scripts/check.sh    only these
set -uo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

all_tiers=(fmt clippy unit pg_test install pg_regress outside upstreams kafka pg15 pg16 pg17 pg18)
read -ra tiers <<<"${TIERS:-${all_tiers[*]}}"
log=$(mktemp)
summary=()
passed=0
failed=0
trap 'rm -f "$log" "$log.reason"' EXIT
trap 'exit 130' INT TERM

# run_tier NAME COMMAND…: a tier passes if its command ends with 0. Status 77 says that it can't be
# run here; the last line of output is the reason.
run_tier() {
    local name=$1 begin=$SECONDS status counts
    shift
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    counts=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) p += $i }
                  /^#? *All [0-9]+ tests passed/ { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+$/) p += $i }
                  END { if (p) printf ", %d tests", p }' "$log")
    case $status in
        0) summary+=("passed       $name$counts, $((SECONDS - begin)) s"); passed=$((passed + 1)) ;;
        77) summary+=("not checked  $name: $(tail -n 1 "$log")") ;;
        *) summary+=("FAILED       $name, $((SECONDS - begin)) s"); failed=$((failed + 1)) ;;
    esac
}

tier_fmt() { cargo fmt --all --check; }

tier_clippy() { cargo clippy --all-targets --no-default-features --features "pg$PG_MAJOR pg_test" -- -D warnings; }

# cargo-pgrx would run every test target, the outside tests too, so the variables that it hands to
# pgrx's test framework are set here. The library's tests are one binary: pgrx names those that run
# inside a server pg_….
lib_tests() {
    PGRX_FEATURES="pg$PG_MAJOR pg_test" PGRX_NO_DEFAULT_FEATURES=true PGRX_BUILD_PROFILE=dev \
        cargo test --lib --no-default-features --features "pg$PG_MAJOR pg_test" -- "$@"
}

tier_unit() { lib_tests --skip ::pg_; }

tier_pg_test() {
    local path=$PATH
    # The framework installs by sudo and starts its server by sudo, wherever it is not allowed both.
    if is_root || [ ! -w "$("$PG_CONFIG" --pkglibdir)" ]; then
        if ! have sudo; then
            is_root || { say "the extension can't be installed without sudo"; return 77; }
            path=$PWD/scripts/shim:$PATH
        fi
        local dir
        dir=$(mktemp -d "${TMPDIR:-/tmp}/ods-pg-test-XXXXXX")
        # Tiers run in subshells of their own, so this ends with the tier.
        trap "rm -rf '$dir'" EXIT
        chmod 755 "$dir"
        as_root chown "$SERVER_USER" "$dir"
        export CARGO_PGRX_TEST_RUNAS=$SERVER_USER CARGO_PGRX_TEST_PGDATA=$dir/data
    fi
    PATH=$path lib_tests ::pg_
}

# The tests inside a server have left an extension with test functions behind, so this comes later.
# Debug build: the one that unit tests have compiled most of already.
tier_install() { install_extension; }

tier_pg_regress() { scripts/regress.sh; }

tier_outside() { cargo test --test outside "${PG_FEATURES[@]}" -- --skip versions:: --skip kafka_ --test-threads 2; }

# Upstreams of every other major that is supported.
tier_upstreams() {
    scripts/upstreams.sh || return
    cargo test --test outside "${PG_FEATURES[@]}" -- versions:: --test-threads 2
}

# Real brokers, Kafka Connect, a schema registry and MariaDB. One at a time: each takes a gigabyte or two.
tier_kafka() {
    scripts/kafka-parts.sh || return
    cargo test --test outside "${PG_FEATURES[@]}" -- kafka_ --test-threads 1
}

# Compiles for another major against its headers.
compile_for() {
    local major=$1 pg_config
    if [ "$major" = "$PG_MAJOR" ]; then
        say "Built and tested above."
        return 0
    fi
    if ! pg_config=$(scripts/headers.sh "$major" 2>"$log.reason"); then
        tail -n 1 "$log.reason"
        return 77
    fi
    say "Headers: $("$pg_config" --version)"
    PGRX_PG_CONFIG_PATH=$pg_config cargo check --all-targets --no-default-features --features "pg$major pg_test"
}

for tier in "${tiers[@]}"; do
    case $tier in
        fmt | clippy | unit | pg_test | install | pg_regress | outside | upstreams | kafka) run_tier "$tier" "tier_$tier" ;;
        pg1[5-8]) run_tier "cargo check on Postgres ${tier#pg}" compile_for "${tier#pg}" ;;
        *) die "No tier $tier. There are: ${all_tiers[*]}" ;;
    esac
done

printf '\n== Summary, Postgres %s (%s)\n' "$PG_MAJOR" "$PG_CONFIG"
printf '%s\n' "${summary[@]}"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
