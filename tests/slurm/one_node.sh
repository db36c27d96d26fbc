#!/usr/bin/env bash
# A SLURM of one node on the loopback, all of it in one folder, for tests.
#   one_node.sh install      the programs, where they are missing: Debian or Ubuntu, as root
#   one_node.sh start DIR    then use it with SLURM_CONF=DIR/slurm.conf
#   one_node.sh stop DIR
set -euo pipefail
export PATH="$PATH:/usr/sbin"

install() {
    command -v sbatch slurmctld slurmd munged >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Error: SLURM is missing. As root, on Debian or Ubuntu: apt-get install slurm-wlm munge" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
    local dir=$1 host user
    host=$(hostname -s)
    user=$(id -un)
    mkdir -p "$dir"/{state,spool}
    (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
    # No cgroups, no accounting; a requeued job may start at once, not after the default two minutes
    cat >"$dir/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
ReturnToService=2
KillWait=15
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=2
PartitionName=test Nodes=ALL Default=YES
EOF
    export SLURM_CONF=$dir/slurm.conf
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
        --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    echo "Error: the node does not become idle. $dir/slurmctld.log and slurmd.log end:" >&2
    tail -n 20 "$dir/slurmctld.log" "$dir/slurmd.log" >&2
    exit 1
}

stop() {
    local dir=$1 name pid
    SLURM_CONF=$dir/slurm.conf scancel --signal=KILL --user="$(id -un)" || true
    for name in slurmd slurmctld munged; do
        [ -s "$dir/$name.pid" ] || continue
        pid=$(cat "$dir/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 40); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.25
        done
    done
}

"$@"
