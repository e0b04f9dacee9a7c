// Charts writes the charts of deploy/helm as `helm package` does, with the version of a release,
// and with times that do not depend on the clone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
)

func main() {
	from := flag.String("charts", "../../helm", "the `DIRECTORY` of the charts")
	to := flag.String("dist", "", "the `DIRECTORY` to write to")
	version := flag.String("version", "", "the `VERSION` of the charts, such as 1.2.3")
	app := flag.String("app-version", "", "the `TAG` of the image, such as v1.2.3")
	epoch := flag.Int64("time", 0, "the time of all files, in `SECONDS` since 1970")
	flag.Parse()
	if err := run(*from, *to, *version, *app, time.Unix(*epoch, 0).UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "charts:", err)
		os.Exit(1)
	}
}

// run packages each chart of a directory.
func run(from, to, version, app string, modified time.Time) error {
	if to == "" || version == "" || app == "" {
		return errors.New("-dist, -version and -app-version are required")
	}
	found, err := filepath.Glob(filepath.Join(from, "*", "Chart.yaml"))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no chart in %s", from)
	}
	for _, file := range found {
		c, err := loader.LoadDir(filepath.Dir(file))
		if err != nil {
			return err
		}
		c.Metadata.Version, c.Metadata.AppVersion = version, app
		setTimes(c, modified)
		if _, err := util.Save(c, to); err != nil {
			return err
		}
	}
	return nil
}

// setTimes sets the time of each file in a package.
func setTimes(c *chart.Chart, modified time.Time) {
	c.ModTime, c.SchemaModTime = modified, modified
	for _, files := range [][]*common.File{c.Raw, c.Templates, c.Files} {
		for _, file := range files {
			file.ModTime = modified
		}
	}
}
