#!/usr/bin/env bats
# vcpus.bats: --vcpus: what is reported per vCPU, what is refused.

bats_require_minimum_version 1.5.0
load common

SHOOT=(run --cpu plain --workload shootdown --set rounds=10 --set threads=4 --mem 64M --set run.check=1)

@test "--vcpus: sums over vCPUs are the counters, and each has its part" {
    nb "${SHOOT[@]}" --paging shadow --vcpus 4 --json
    [ "$status" -eq 0 ]
    jq -e '.vcpus == 4 and (.per_vcpu | length) == 4' <<< "$output"
    jq -e '. as $r | .per_vcpu[0] | keys | all(.[]; . as $c | ($r.per_vcpu | map(.[$c]) | add) == $r.counters[$c])' <<< "$output"
    # workloads/shootdown.c: 256 / 8 rounds of set-up and 10, of 8 pages on 4 vCPUs
    jq -e '.counters | .guest_shootdowns == 42 and .guest_ipis == 126 and .exit_ipi == 126 and .exit_intr == 126
        and .guest_invlpgs == 1344 and .exit_invlpg == 1344' <<< "$output"
    jq -e '.cycles.ipi > 0' <<< "$output"
}

@test "--vcpus 1 is the default: no part per vCPU, no interrupts to see" {
    "$nestbed" "${SHOOT[@]}" --json | jq 'del(.wall_seconds, .metadata_bytes)' > a
    "$nestbed" "${SHOOT[@]}" --vcpus 1 --json | jq 'del(.wall_seconds, .metadata_bytes)' > b
    cmp a b
    jq -e '.vcpus == 1 and .per_vcpu == null and .counters.exit_intr == null and .counters.guest_ipis == 0' a
}

@test "--vcpus: a column each in the table, rows in -x" {
    nb "${SHOOT[@]}" --vcpus 3
    [ "$status" -eq 0 ]
    grep -q 'ARG vcpus  *3$' <<< "$output"
    grep -q 'vCPU 0 .*vCPU 1 .*vCPU 2  counter (exact)' <<< "$output"
    nb "${SHOOT[@]}" --vcpus 9
    grep -q '^1 more vCPUs: --json' <<< "$output"
    nb "${SHOOT[@]}" --vcpus 3 -x ,
    [ "$(grep -c '^[0-9]*,accesses,vcpu[0-2].accesses,exact$' <<< "$output")" -eq 3 ]
    nb "${SHOOT[@]}"
    run ! grep -q 'vCPU' <<< "$output"
}

@test "--vcpus: the memory at the end does not depend on it" {
    for n in 1 2 5 64; do
        "$nestbed" run --workload forkcow --set procs=5 --set pages=300 --mem 64M --vcpus "$n" \
            --set run.hash=1 --set run.check=1 --json | jq -c '[.memory_hash, .counters.guest_faults, .counters.accesses]' >> sums
    done
    [ "$(sort -u sums | wc -l)" -eq 1 ]
}

@test "--vcpus: events say on which vCPU" {
    nb "${SHOOT[@]}" --paging shadow --vcpus 2 --set run.events=e
    [ "$status" -eq 0 ]
    [ "$(head -n 1 e)" = $'accesses\tphase\tevent\taddress\tvalue\tvcpu' ]
    [ -z "$(awk -F'\t' 'NF != 6' e)" ]
    [ "$(awk -F'\t' '$3 == "guest_ipis"' e | wc -l)" -eq 42 ]
    awk -F'\t' '$3 == "guest_ipis" && $4 == "0x" $6 {exit 1}' e # nobody interrupts himself
}

@test "--vcpus: 1 to 64" {
    for n in 0 65 -1 two ''; do
        nb "${SHOOT[@]}" --vcpus "$n"
        fail_line 64 "1 to 64"
    done
}

@test "--vcpus: engines whose image has one vCPU refuse more" {
    for engine in kvm labvm; do
        nb run --engine "$engine" --workload touch --vcpus 2
        fail_line 64 "use --engine model"
    done
}
