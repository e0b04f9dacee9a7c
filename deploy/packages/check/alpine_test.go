//go:build linux

package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/container"
)

// busybox has what Alpine's commands for users do with the arguments of the scripts.
var busybox = map[string]string{
	"addgroup": `[ "$*" = '-S iamproxy' ] && exec groupadd --system iamproxy`,
	"adduser":  `[ "$*" = '-S -D -H -h /dev/null -s /sbin/nologin -G iamproxy -g iamproxy iamproxy' ] && exec useradd --system --no-create-home --home-dir /dev/null --gid iamproxy iamproxy`,
	"deluser":  `exec userdel "$1"`,
	"delgroup": `exec groupdel "$1"`,
}

// onAlpine installs, starts, upgrades and removes the package, as apk does. It is for a shell in a
// clean Debian with OpenRC, since there is no Alpine without its registry.
const onAlpine = `
started() {
	until iamproxy wait --timeout 5s; do sleep 0.1; done # the start is in the background
}
not() {
	if "$@"; then exit 1; fi # set -e does not apply to "!"
}
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
for state in exclusive starting started stopping inactive wasinactive failed daemons options scheduled; do
	mkdir -p /run/openrc/$state # as openrc does at boot
done
touch /run/openrc/softlevel
mkdir -p /etc/conf.d
echo 'rc_need="!net"' >/etc/conf.d/iamproxy

/scripts/.pre-install
cat >/etc/iamproxy/env <<'END'
  # A comment with IAMPROXY_NO_SUCH_FLAG=1
IAMPROXY_ENDPOINTS=mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
IAMPROXY_VIA=exec:sleep 1000{port}
IAMPROXY_LOG_LEVEL="debug"
AWS_ACCESS_KEY_ID='AKIAIOSFODNN7EXAMPLE'
AWS_EC2_METADATA_DISABLED=true
END
printf AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY >>/etc/iamproxy/env # no end of the line
rc-service iamproxy start
started
first=$(cat /run/supervise-iamproxy.pid)
[ "$(stat --format=%U /proc/$(cat /proc/$first/task/$first/children | tr -d ' '))" = iamproxy ]

/scripts/.post-upgrade
started
[ "$(cat /run/supervise-iamproxy.pid)" != "$first" ]
printf '\nIAMPROXY_NO_SUCH_FLAG=1\n' >>/etc/iamproxy/env
/scripts/.post-upgrade

/scripts/.pre-deinstall
not iamproxy wait --timeout 1s
/scripts/.post-deinstall
not getent passwd iamproxy
not getent group iamproxy
`

func TestOpenRC(t *testing.T) {
	if testing.Short() {
		t.Skip("it downloads Debian")
	}
	content, err := os.ReadFile(file(t, later, "apk"))
	if err != nil {
		t.Fatal(err)
	}
	root := clean(t)
	put := func(name, content string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	packed := bytes.NewReader(content)
	for name, script := range entries(t, packed) {
		put("scripts/"+name, script.content, 0o755)
	}
	for name, file := range entries(t, packed) {
		mode := os.FileMode(0o644)
		if strings.Contains(file.mode, "x") {
			mode = 0o755
		}
		put(name, file.content, mode)
	}
	for name, body := range busybox {
		put("usr/local/sbin/"+name, "#!/bin/sh\n"+body+"\n", 0o755)
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if out, err := container.Run(container.NewNetwork(t).Command(env, "unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", root, "sh", "-euxc", onAlpine)); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
