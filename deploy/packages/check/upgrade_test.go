//go:build linux

package check

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

const endpoint = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// manager is a package manager, with commands for a file or for iamproxy.
type manager struct {
	format             string
	install, downgrade string
	remove, purge      string
	keepsUnused, keeps []string // after a removal: files of /etc, without and with changes
}

var managers = []manager{{
	format:      "deb",
	install:     "apt-get install --quiet --yes --no-install-recommends %s",
	downgrade:   "dpkg -i %s",
	remove:      "dpkg -r iamproxy",
	purge:       "dpkg -P iamproxy",
	keepsUnused: []string{"/etc/iamproxy", "/etc/iamproxy/env"},
	keeps:       []string{"/etc/iamproxy", "/etc/iamproxy/env"},
}, {
	format:    "rpm",
	install:   "rpm -U %s",
	downgrade: "rpm -U --oldpackage %s",
	remove:    "rpm -e iamproxy",
	purge:     "rm -rf /etc/iamproxy",
	keeps:     []string{"/etc/iamproxy", "/etc/iamproxy/env.rpmsave"},
}}

// TestPackages installs a package, starts both kinds of service, upgrades them, and removes the
// package.
func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("it downloads Debian")
	}
	cluster := &aurora.Cluster{}
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	for _, manager := range managers {
		t.Run(manager.format, func(t *testing.T) {
			h := &host{machine: boot(t), manager: manager, cluster: cluster}
			before := h.files()
			h.install(earlier)
			h.checkInstalled()
			h.run(manager.remove)
			h.checkLeft("removal without use", before, manager.keepsUnused)
			h.run(manager.purge)
			h.checkLeft("purge without use", before, nil)

			h.install(earlier)
			h.configure()
			h.checkService()
			h.checkUpgrade()
			h.checkWrongConfiguration()

			h.run("rm /etc/iamproxy/ca.pem")
			h.run(manager.remove)
			h.checkLeft("removal", before, manager.keeps)
			h.run(manager.purge)
			h.checkLeft("purge", before, nil)
			if failed := h.run("systemctl --failed --no-legend"); failed != "" {
				t.Errorf("failed units are left: %s", failed)
			}
		})
	}
}

// host is a machine with the package.
type host struct {
	*machine
	manager manager
	cluster *aurora.Cluster
}

// install installs a version, or upgrades to it.
func (h *host) install(version string) {
	h.t.Helper()
	h.put(version, h.manager.install)
}

// put runs a command with the package of a version, and returns its output.
func (h *host) put(version, command string) string {
	h.t.Helper()
	content, err := os.ReadFile(file(h.t, version, h.manager.format))
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.root, "root/package."+h.manager.format), content, 0o600); err != nil {
		h.t.Fatal(err)
	}
	defer h.run("rm /root/package.*")
	return h.run(fmt.Sprintf(command, "/root/package."+h.manager.format))
}

func (h *host) checkInstalled() {
	h.t.Helper()
	if got := h.run("iamproxy version"); !strings.HasPrefix(got, "iamproxy "+earlier+" (commit "+commit+", ") {
		h.t.Errorf("iamproxy version prints %s", got)
	}
	if got := h.run("stat --format='%a %U' /etc/iamproxy/env"); got != "600 root" {
		h.t.Errorf("/etc/iamproxy/env has %s", got)
	}
	if got := h.run("systemd-analyze verify iamproxy.service iamproxy@0.service iamproxy.socket"); got != "" {
		h.t.Errorf("systemd-analyze: %s", got)
	}
	if got, _ := h.try("systemctl is-enabled iamproxy.service iamproxy@0.service iamproxy.socket || systemctl is-active iamproxy.service iamproxy@0.service iamproxy.socket"); got != "disabled\ndisabled\ndisabled\ninactive\ninactive\ninactive" {
		h.t.Errorf("a package that is not configured is %q", got)
	}
}

// configure writes the configuration for the stand-in.
func (h *host) configure() {
	h.t.Helper()
	ca, err := os.ReadFile(h.cluster.CAFile())
	if err != nil {
		h.t.Fatal(err)
	}
	env := append(container.Credentials(), "IAMPROXY_ENDPOINTS="+endpoint, "IAMPROXY_VIA="+h.network.Relay(h.t, h.cluster.Addr()), "IAMPROXY_CA_FILE=/etc/iamproxy/ca.pem")
	// The mode of the file is that of the package.
	for name, content := range map[string]string{"ca.pem": string(ca), "env": strings.Join(env, "\n") + "\n"} {
		if err := os.WriteFile(filepath.Join(h.root, "etc/iamproxy", name), []byte(content), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

// query runs a query in a session, and returns its result.
func (h *host) query(sql string) (string, error) {
	cmd := h.network.Command(os.Environ(), "psql", "-XAtq", "-c", sql, "host=127.0.0.1 port=5432 user="+aurora.IAMUser+" dbname="+aurora.Database)
	return container.Run(cmd)
}

// checkService starts iamproxy.service, and upgrades it and returns to the earlier version.
func (h *host) checkService() {
	h.t.Helper()
	h.run("systemctl enable --now iamproxy && iamproxy wait")
	if user, err := h.query("select current_user"); err != nil || user != aurora.IAMUser {
		h.t.Errorf("%s: %v", user, err)
	}
	if uid := h.run("stat --format=%u /proc/$(systemctl show -P MainPID iamproxy)"); uid == "0" || uid == "65534" {
		h.t.Errorf("it runs as user %s", uid)
	}
	h.install(later)
	if got := h.serving("iamproxy"); !strings.Contains(got, later+" ") {
		h.t.Errorf("%s serves after the upgrade", got)
	}
	h.put(earlier, h.manager.downgrade)
	h.run("systemctl disable --now iamproxy")
}

// serving returns the version of the process of a unit.
func (h *host) serving(unit string) string {
	h.t.Helper()
	return h.run("/proc/$(systemctl show -P MainPID " + unit + ")/exe version")
}

// checkUpgrade upgrades the units that take turns, while clients connect.
func (h *host) checkUpgrade() {
	h.t.Helper()
	h.run("systemctl enable --now iamproxy.socket iamproxy@0")
	open := h.openSession()
	stop := h.connect(4)
	h.install(later)
	total, failures := stop()
	if len(failures) > 0 {
		h.t.Errorf("%d of %d clients failed: %s", len(failures), total, failures[0])
	}
	h.t.Logf("%s: %d sessions during the upgrade", h.manager.format, total)
	if got := h.serving("iamproxy@1"); !strings.Contains(got, later+" ") {
		h.t.Errorf("%s serves after the upgrade", got)
	}
	if answer := open.ask("select 40 + 2;"); answer != "42" {
		h.t.Errorf("a session that was open before the upgrade answers %q", answer)
	}
	open.close()
	h.until("the earlier process has ended", func() bool {
		state, _ := h.try("systemctl is-active iamproxy@0")
		return state == "inactive"
	})
	if got := h.run("stat --format=%a /etc/iamproxy/env; grep -c " + endpoint + " /etc/iamproxy/env"); !strings.HasSuffix(got, "\n1") {
		h.t.Errorf("the configuration is not kept: %s", got)
	}
}

// checkWrongConfiguration installs another version with a configuration that it rejects. The
// package is installed, and the process that runs keeps serving.
func (h *host) checkWrongConfiguration() {
	h.t.Helper()
	h.run("echo IAMPROXY_NO_SUCH_FLAG=1 >>/etc/iamproxy/env")
	said := h.put(earlier, h.manager.downgrade)
	if !strings.Contains(said, "iamproxy-restart") {
		h.t.Errorf("no advice: %s", said)
	}
	if got := h.serving("iamproxy@1"); !strings.Contains(got, later+" ") {
		h.t.Errorf("%s serves", got)
	}
	if user, err := h.query("select current_user"); err != nil || user != aurora.IAMUser {
		h.t.Errorf("%s: %v", user, err)
	}
	h.run("sed -i '/NO_SUCH_FLAG/d' /etc/iamproxy/env && iamproxy-restart")
	if got := h.serving("iamproxy@0"); !strings.Contains(got, earlier+" ") {
		h.t.Errorf("%s serves after the correction", got)
	}
}

// connect runs clients that log in again and again, until stop is called. It returns once each
// has had a session.
func (h *host) connect(clients int) (stop func() (total int, failures []string)) {
	var (
		running, started sync.WaitGroup
		mu               sync.Mutex
		total            int
		failures         []string
	)
	done := make(chan struct{})
	started.Add(clients)
	for range clients {
		running.Go(func() {
			first := sync.OnceFunc(started.Done)
			defer first()
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := h.query("select 1")
				mu.Lock()
				total++
				if err != nil {
					failures = append(failures, out)
				}
				mu.Unlock()
				first()
			}
		})
	}
	started.Wait()
	return func() (int, []string) {
		close(done)
		running.Wait()
		return total, failures
	}
}

// files returns the paths in the machine with their modes, and the contents of those in /etc. It
// leaves out what systemd and the package managers write about their own work.
func (h *host) files() map[string]string {
	h.t.Helper()
	found := map[string]string{}
	skipped := []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/log", "/var/cache", "/var/tmp", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd/random-seed", "/etc/.updated", "/var/.updated"}
	err := filepath.WalkDir(h.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, h.root)
		switch {
		case slices.Contains(skipped, name) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(skipped, name): // SkipDir would skip the rest of its directory
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found[name] = info.Mode().String()
		if strings.HasPrefix(name, "/etc/") && info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[name] += " " + string(content)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

// checkLeft reports the files that differ from those before, except for those that are kept.
func (h *host) checkLeft(after string, before map[string]string, keeps []string) {
	h.t.Helper()
	now := h.files()
	for name := range now {
		if was, ok := before[name]; (!ok || was != now[name]) && !slices.Contains(keeps, name) {
			h.t.Errorf("%s is left or changed after %s", name, after)
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			h.t.Errorf("%s is missing after %s", name, after)
		}
	}
	for _, name := range keeps {
		if _, ok := now[name]; !ok {
			h.t.Errorf("%s is not kept after %s", name, after)
		}
	}
}
