#!/usr/bin/env bash
# Starts a Slurm of this machine alone, for tests/submit.rs: munged, slurmctld and slurmd, as root.
# Exit status 3: it cannot be installed or started here.
set -uo pipefail

fail() {
    echo "$1" >&2
    exit 3
}

sinfo --noheader >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] || fail "only root can start Slurm's daemons"
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq slurmctld slurmd slurm-client munge; } >/dev/null 2>&1 ||
        fail "Debian's slurmctld, slurmd, slurm-client and munge cannot be installed"
fi

config=/etc/slurm/slurm.conf
[ ! -e $config ] || grep -q '^ClusterName=wbc$' $config || fail "$config belongs to another cluster, which does not answer"

folder=/var/lib/wbc-slurm
host=$(hostname -s)
mkdir -p $folder/state $folder/spool $folder/log /etc/slurm /run/munge
cat >$config <<END
ClusterName=wbc
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
[ -e /etc/munge/munge.key ] || mungekey || fail "munge has no key"
chown munge: /etc/munge/munge.key /run/munge
chmod 755 /run/munge
# The daemons must not keep the caller's output open.
pgrep -x munged >/dev/null || runuser -u munge -- munged >/dev/null 2>&1
pgrep -x slurmctld >/dev/null || slurmctld >/dev/null 2>&1
pgrep -x slurmd >/dev/null || slurmd >/dev/null 2>&1
for _ in $(seq 30); do
    sinfo --noheader --format %T 2>/dev/null | grep -q idle && exit 0
    sleep 1
done
fail "Slurm was started, and its node does not become idle"
