//go:build unix

package aurora

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const loopback = "127.0.0.1"

// settings trade durability for speed.
var settings = map[string]string{
	"listen_addresses":    loopback,
	"max_connections":     "200",
	"shared_buffers":      "32MB",
	"fsync":               "off",
	"synchronous_commit":  "off",
	"full_page_writes":    "off",
	"max_wal_size":        "1GB", // the default, which initdb scales with --wal-segsize
	"autovacuum":          "off",
	"jit":                 "off",
	"password_encryption": "scram-sha-256",
	"log_connections":     "on",
	"logging_collector":   "off", // Log reads standard error
	"log_destination":     "stderr",
}

// configure writes the configuration and the certificate of a server that was copied from
// the template.
func (c *Cluster) configure() error {
	if err := c.addSettings(map[string]string{"ssl": "on"}); err != nil {
		return err
	}
	if err := c.addSettings(c.Settings); err != nil {
		return err
	}
	if err := c.writeHBA(true); err != nil {
		return err
	}
	_, err := c.writeCertificate(c.Certificate)
	return err
}

// addSettings appends to postgresql.conf. The last line for a setting counts.
func (c *Cluster) addSettings(settings map[string]string) error {
	conf, err := os.OpenFile(filepath.Join(c.dir, dataDir, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = %s\n", name, quote(settings[name]))
	}
	_, err = conf.WriteString(lines.String())
	if closeErr := conf.Close(); err == nil {
		err = closeErr
	}
	return err
}

// quote quotes a value for postgresql.conf. The same rules apply to connection strings.
func quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
