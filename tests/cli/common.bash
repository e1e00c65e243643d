# shellcheck shell=bash
# common.bash: what every .bats file loads. NESTBED names the program under test.

# A shared binary directory is no place for scratch files: each test starts in its own.
setup() {
    repo=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    nestbed=${NESTBED:-$repo/build/nestbed}
    cd "$BATS_TEST_TMPDIR" || return 1
    unset NO_COLOR NESTBED_LOG
}

# Run nestbed: status and output, stderr apart in $err.
nb() {
    run --separate-stderr "$nestbed" "$@"
    # shellcheck disable=SC2154  # set by run
    err=$stderr
}

# The smallest run that has everything: phases, walks, exits.
SHORT=(run --workload touch --set pages=2048 --set rounds=4 --mem 64M)

# fail_with STATUS TEXT: the last command failed so, with that text on stderr and nothing on stdout.
fail_with() {
    if [ "$status" -ne "$1" ] || [[ "$err" != *"$2"* ]] || [ -n "$output" ]; then
        echo "status $status, expected $1; stderr: $err; expected: $2; stdout: ${output:0:200}"
        return 1
    fi
}

# fail_line STATUS TEXT: likewise, and the message is one line.
fail_line() {
    fail_with "$1" "$2" && [ "$(wc -l <<< "$err")" -eq 1 ]
}

# For setup_file: what the lab machine needs is there, or needs_labvm skips with the reason. Its kernel is
# fetched when it is not cached and the network is quick.
prepare_labvm() {
    local program=${NESTBED:-$BATS_TEST_DIRNAME/../../build/nestbed}
    labvm_reason=$(timeout 45 "$program" labvm prepare 2>&1 > /dev/null) && labvm_reason=
    [ "${PIPESTATUS[0]}" -ne 124 ] || labvm_reason="no kernel within 45 s"
    labvm_reason=${labvm_reason##*$'\n'}
    export labvm_reason
}

needs_labvm() {
    [ -z "$labvm_reason" ] || skip "$labvm_reason"
}
