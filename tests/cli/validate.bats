#!/usr/bin/env bats
# validate.bats: predicted beside counted: on a stand-in for a KVM, on this host's, in the lab machine.

bats_require_minimum_version 1.5.0
load common

need_kvm() {
    { [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || skip "there is no /dev/kvm that we may open"
}

# Everything needed is there and cached: never downloads.
need_labvm() {
    timeout 45 "$nestbed" labvm prepare > /dev/null 2> why || skip "$(head -n 1 why)"
}

# stand_in [JQ]: ./fake, a nestbed whose engine kvm is the model under another name, its record changed
# by JQ. What it "counts" is what the model predicts, so any difference is JQ's.
stand_in() {
    cat > fake << SCRIPT
#!/bin/bash
args=()
for a in "\$@"; do
    case \$a in
        --engine=kvm) kvm=1; args+=(--engine=model --paging=shadow-pvm --cpu=plain) ;;
        *) args+=("\$a") ;;
    esac
done
"$nestbed" "\${args[@]}" > record || exit
[ -n "\$kvm" ] || exec cat record
jq '.backend = "pvm" | .kvm_kernel = "Linux 7.0" | .paging = "shadow" | .phases[] |= (.counters as \$c | .kvm = {
        pf_taken: (\$c.exit_fill + \$c.exit_reflect + \$c.exit_pt_write + \$c.exit_spurious + \$c.exit_retry),
        pf_fixed: \$c.exit_fill, pf_guest: \$c.exit_reflect, invlpg: \$c.guest_invlpgs, mmu_pte_write: 12345})
    | ${1:-.}' record
SCRIPT
    chmod +x fake
}

TOUCH=(validate --targets host --program ./fake --workload touch --set pages=300)

verdict() {
    jq -r --arg p "$1" --arg e "$2" '.rows[] | select(.phase == $p and .event == $e) | .verdict' <<< "$output"
}

@test "validate: wrong options" {
    nb validate --targets moon
    fail_line 64 "labvm and host"
    nb validate --targets host,
    fail_line 64 "labvm and host"
    nb validate --workload tuch
    fail_line 64 "did you mean 'touch'"
    nb validate --set pages=1
    fail_line 64 "--workload touch"
    nb validate --workload touch --set pages=x
    fail_line 64 "--set pages=x"
    nb validate --workload touch --timeout 0
    fail_line 64 "--timeout"
    nb validate --levels 3
    fail_line 64 "have 4 or 5 levels"
    nb validate --guest-page 3m
    fail_line 64 "choose 4k, 2m, 1g or thp"
    nb validate --json -x ,
    fail_line 64 "exclude each other"
}

@test "validate: a record that the model predicts passes; what one side cannot see is null" {
    stand_in
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 0 ]
    jq -e '.schema == "nestbed-validate/1" and .summary.off == 0 and .summary.equal > 10' <<< "$output"
    [ "$(verdict work guest_faults)" = equal ]
    [ "$(verdict work pf_taken)" = equal ]
    [ "$(verdict end memory_hash)" = equal ]
    [ "$(verdict work mmu_pte_write)" = unseen ] # every store of ring 0: the model has none
    jq -e 'all(.rows[] | select(.event == "mmu_cache_miss"); .counted == null and .verdict == "unseen")' <<< "$output"
    jq -e '.runs == [{target: "host", paging: "shadow", workload: "touch", params: {pages: 300, rounds: 4},
        backend: "pvm", kernel: "Linux 7.0", predicted_by: "shadow-pvm", status: "ran", reason: null}]' <<< "$output"
    jq -e '.tags == {predicted: "exact", counted: "counted"}' <<< "$output"
}

@test "validate: one event too many, another memory, a fill in thirty: off, exit 1" {
    stand_in '(.phases[] | select(.name == "work") | .counters.guest_faults) += 1'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    [ "$(verdict work guest_faults)" = off ]
    nb "${TOUCH[@]}" --json --verdicts
    [ "$status" -eq 0 ]
    stand_in '.memory_hash = "0000000000000000"'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    [ "$(verdict end memory_hash)" = off ]
    stand_in '(.phases[] | select(.name == "work") | .kvm.pf_fixed) += 10'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    [ "$(verdict work pf_fixed)" = off ]
    stand_in '(.phases[] | select(.name == "work") | .kvm.pf_fixed) += 5'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 0 ]
    [ "$(verdict work pf_fixed)" = within ]
}

@test "validate: a guest that crashed, a backend nobody knows, no record: failed, with the reason" {
    stand_in '.outcome.status = "crashed"'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    [ "$(verdict end outcome)" = off ]
    stand_in '.backend = "abacus"'
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    [[ "$err" == *"no strategy of the model predicts backend abacus"* ]]
    printf '#!/bin/sh\necho no record\n' > fake
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    jq -e '.runs[0].status == "failed" and .summary.failed == 1' <<< "$output"
}

@test "validate: a record that says ok and an exit status that does not: failed" {
    stand_in
    printf '[ -z "%skvm" ] || exit 134\n' '$' >> fake
    nb "${TOUCH[@]}" --json
    [ "$status" -eq 1 ]
    jq -e '.runs[0].status == "failed" and .runs[0].reason == "exit 134 without a message"' <<< "$output"
}

@test "validate: what only one side has is off: a guest's count, a phase, the hash" {
    for change in 'del(.phases[2].counters.guest_faults)' '.phases += [.phases[2] | .name = "more"]' \
        '.memory_hash = null'; do
        stand_in "$change"
        nb "${TOUCH[@]}" --json
        [ "$status" -eq 1 ]
        jq -e '.summary.off == 1' <<< "$output"
    done
}

@test "validate: nothing can run here: skipped, exit 77" {
    printf '#!/bin/sh\necho "nestbed: open /dev/kvm: no such file" >&2\nexit 69\n' > fake
    chmod +x fake
    nb "${TOUCH[@]}"
    fail_line 77 "host: skipped: open /dev/kvm: no such file"
}

@test "validate without QEMU or KVM: one line each says why, exit 77" {
    [ "$(id -u)" -eq 0 ] || skip "needs root, to be somebody else"
    command -v setpriv > /dev/null || skip "setpriv is not installed"
    setpriv --reuid=65534 --regid=65534 --clear-groups test ! -w /dev/kvm || skip "anybody may open /dev/kvm"
    cp "$nestbed" ./nestbed && chmod 755 . nestbed
    run --separate-stderr env PATH=/nonexistent "$(command -v setpriv)" --reuid=65534 --regid=65534 --clear-groups \
        ./nestbed validate --json
    [ "$status" -eq 77 ]
    [ -z "$output" ]
    [[ "$stderr" == *"labvm: skipped: "*"apt-get install"* ]]
    [[ "$stderr" == *"host: skipped: "*"/dev/kvm"* ]]
    [ "$(wc -l <<< "$stderr")" -eq 2 ]
}

@test "validate: Ctrl-C in the lab machine: 130, and no machine is left" {
    need_labvm
    "$nestbed" validate --targets labvm > out 2> err &
    pid=$!
    for ((i = 0; i < 50; i++)); do
        qemu=$(pgrep -P "$pid" -f qemu-system) && break
        sleep 0.1
    done
    [ -n "$qemu" ]
    kill -INT "$pid"
    ended=0
    wait "$pid" || ended=$?
    [ "$ended" -eq 130 ]
    for ((i = 0; i < 30; i++)); do
        kill -0 "$qemu" 2> /dev/null || break
        sleep 0.1
    done
    run ! kill -0 "$qemu"
    [ ! -s out ]
}

@test "validate: constants of boot are stated, and one that is not constant is off" {
    stand_in '(.phases[] | select(.name == "boot") | .kvm.pf_fixed) = 40'
    nb "${TOUCH[@]}" --workload churn --set accesses=1000 --set size=64K
    [ "$status" -eq 0 ]
    [[ "$output" == *"host shadow"*"pf_fixed"*"40  the same in every run"* ]]
    stand_in '(.phases[] | select(.name == "boot") | .kvm.pf_fixed) = (.workload.name | length)'
    nb "${TOUCH[@]}" --workload forkcow --set procs=1 --set pages=16
    [ "$status" -eq 1 ]
    [[ "$output" == *"off: not the same in every run"* ]]
    [[ "$output" == *" 0 off, 1 constants of boot off, "*" unseen by one side"* ]]
}

@test "validate: separated fields: a head, the fields of every row, null is empty" {
    stand_in
    nb "${TOUCH[@]}" -x ';'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "target;paging;workload;phase;event;predicted;counted;difference;percent;verdict" ]
    [ "$(awk -F ';' '{print NF}' <<< "$output" | sort -u)" = 10 ]
    [[ "$output" == *"host;shadow;touch;work;mmu_pte_write;;12345;;;unseen"* ]]
    [[ "$output" == *"host;shadow;touch;work;guest_faults;300;300;0;0.0000;equal"* ]]
}

@test "validate --figure draws predicted against counted" {
    command -v gnuplot > /dev/null || skip "gnuplot is not installed"
    fc-match 'DejaVu Sans' > /dev/null || skip "no fonts"
    stand_in
    nb "${TOUCH[@]}" --figure figs
    [ "$status" -eq 0 ]
    for end in tsv gp svg png; do [ -s figs/validate.$end ]; done
    grep -q 'predicted: exact; counted: counted' figs/validate.svg
}

@test "validate: this host's KVM, the workloads that change their tables most" {
    need_kvm
    nb validate --targets host --quick --json
    [ "$status" -eq 0 ]
    jq -e '.summary.off == 0 and .summary.failed == 0 and .summary.equal > 40' <<< "$output"
    jq -e '[.rows[] | select(.event == "memory_hash") | .verdict] == ["equal", "equal", "equal", "equal"]' <<< "$output"
}

@test "validate: the lab machine, both modes in one boot" {
    need_labvm
    nb validate --targets labvm --workload touch --set pages=300 --set rounds=2 --json
    [ "$status" -eq 0 ]
    jq -e '[.runs[] | [.paging, .backend, .predicted_by, .status]] ==
        [["ept", "svm-npt", "ept-kvm", "ran"], ["shadow", "svm-shadow", "shadow-kvm", "ran"]]' <<< "$output"
    jq -e '.summary.off == 0 and .summary.constants_off == 0' <<< "$output"
}

@test "bench: a validation is two counted cells, and PAPER.md has facts from them" {
    nb bench plan --filter '^validate'
    [ "$(grep -c $'\tcounted\t' <<< "$output")" -eq 2 ]
    need_kvm
    nb bench -q --quick --no-plots --filter '^validate/target:host'
    [ "$status" -eq 0 ]
    [[ "$output" == *"model and real KVM: of "*" 0 off"* ]]
    jq -e '."validate.off".text == "0" and ."validate.off".measured' results/2*/facts.json
    jq -e '."validate.table".text | test("host, .* paging")' results/2*/facts.json
    jq -e '."validate.verdict".text == "holds on the host alone"' results/2*/facts.json
    "$nestbed" bench export results/2* copy
    [ -z "$(ls copy/cells)" ] # what a KVM counts belongs to its machine
}
