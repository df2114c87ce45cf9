#!/bin/sh
# RabbitMQ, Redis and Valkey of another release of Debian, for the tests: as root, on Debian, with debootstrap installed.
#
#   brokers/another-debian.sh SUITE FOLDER      for example: trixie target/trixie
#
# makes FOLDER/system, a system of that release, and three folders of scripts that start its servers in a chroot:
#
#   ANABRANCH_RABBITMQ_BIN=FOLDER/rabbitmq ANABRANCH_REDIS_BIN=FOLDER/valkey (or FOLDER/redis) cargo xtask test
#
# The workspace and the folder of temporary files are mounted there, so that all paths mean the same; `umount -R` FOLDER/system/*
# before you delete it.
set -eu
suite=$1
workspace=$(cd "$(dirname "$0")/.." && pwd -P)
mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
system=$folder/system
packages='rabbitmq-server redis-server valkey-server'

if [ ! -e "$system/usr/sbin/policy-rc.d" ]; then
    scripts=/usr/share/debootstrap/scripts
    [ -e "$scripts/$suite" ] || ln -s sid "$scripts/$suite"
    debootstrap --variant=minbase "$suite" "$system" http://deb.debian.org/debian
    # No service starts (invoke-rc.d(8)).
    printf '#!/bin/sh\nexit 101\n' > "$system/usr/sbin/policy-rc.d"
    chmod 755 "$system/usr/sbin/policy-rc.d"
fi
# RabbitMQ asks for localhost by name.
cp /etc/hosts "$system/etc/hosts"
for shared in /proc "${TMPDIR:-/tmp}" "$workspace"; do
    mkdir -p "$system$shared"
    mountpoint -q "$system$shared" || mount --bind "$shared" "$system$shared"
done
[ -e "$system/usr/bin/valkey-server" ] ||
    DEBIAN_FRONTEND=noninteractive chroot "$system" apt-get -q install -y --no-install-recommends $packages

# script FOLDER NAME PROGRAM: becomes the program, in the working folder it is called in.
script() {
    mkdir -p "$folder/$1"
    cat > "$folder/$1/$2" <<END
#!/bin/sh
exec chroot "$system" /bin/sh -c 'cd "\$0" && exec "\$@"' "\$PWD" $3 "\$@"
END
    chmod 755 "$folder/$1/$2"
}
script rabbitmq rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
script rabbitmq rabbitmqctl /usr/lib/rabbitmq/bin/rabbitmqctl
script rabbitmq epmd /usr/bin/epmd
script rabbitmq erl_call /usr/bin/erl_call
for server in redis valkey; do
    script $server redis-server /usr/bin/$server-server
    script $server redis-cli /usr/bin/$server-cli
done
chroot "$system" dpkg-query -W -f '${Package} ${Version}\n' $packages erlang-base
