#!/bin/sh
# The guest's first process: mounts, the Binder module, then the command; its exit status and results go to the host
# through the second serial port, as one compressed tar archive.
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/root TERM=dumb LANG=C.UTF-8 XDG_RUNTIME_DIR=/run/user/0
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/binderkit/src:/site BINDERKIT_TEST_GUEST=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts /root /tmp /results /run/user/0
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t debugfs debug /sys/kernel/debug
chmod 1777 /tmp /dev/shm
chmod 700 /run/user/0
ln -s /proc/self/fd /dev/fd
ip link set lo up
stty -F /dev/ttyS0 -onlcr
stty -F /dev/ttyS1 raw

# Debian's kernels have no binderfs: every device there will ever be is named here.
insmod /modules/binder_linux.ko "devices=binder,hwbinder,vndbinder,b$(seq -s ,b 0 63)" ||
    echo "guest: the Binder module cannot be loaded"

cd /binderkit || exit
. /guest.conf # sets TIME_LIMIT, in seconds
began=$(date +%s)
timeout -s INT -k 20 "$TIME_LIMIT" sh /command.sh </dev/null # interrupted, pytest still reports
status=$?
[ $(($(date +%s) - began)) -ge "$TIME_LIMIT" ] && status=124
echo "$status" >/results/.status
tar -c -z -C /results . >/dev/ttyS1
poweroff -f
