package docs

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/tls"
)

var (
	builtInRoots = regexp.MustCompile(`(?ms)^## Built-in roots$(.*?)^## `)
	firstCell    = regexp.MustCompile("(?m)^\\| (`[^|]+) \\|")
	rootOfRegion = regexp.MustCompile(`^Amazon RDS ([a-z0-9-]+) Root CA`)
)

// The roots of every region that the AWS SDK knows are built in, unless docs/certificates.md lists
// the region or its partition as an exception. It lists no region whose roots are built in.
func TestRegionsHaveRoots(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "tls/rds/*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := make(map[string]int) // by region
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := tls.ParseCertificates(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, cert := range certs {
			if m := rootOfRegion.FindStringSubmatch(cert.Subject.CommonName); m != nil {
				roots[m[1]]++
			}
		}
	}
	section := builtInRoots.FindStringSubmatch(read(t, "docs/certificates.md"))
	if section == nil {
		t.Fatal("docs/certificates.md has no section about the built-in roots")
	}
	exceptions := make(map[string]bool) // whether the SDK knows it
	for _, cell := range firstCell.FindAllStringSubmatch(section[1], -1) {
		for _, name := range quoted.FindAllStringSubmatch(cell[1], -1) {
			exceptions[name[1]] = false
		}
	}
	regions := regionsOfSDK(t)
	for region, partition := range regions {
		_, excepted := exceptions[region]
		_, partitionExcepted := exceptions[partition]
		switch n := roots[region]; {
		case n == 0 && !excepted && !partitionExcepted:
			t.Errorf("%s in %s has no built-in roots, and docs/certificates.md does not list it", region, partition)
		case n > 0 && (excepted || partitionExcepted):
			t.Errorf("%s in %s has built-in roots, and docs/certificates.md lists it as an exception", region, partition)
		case n != 0 && n != 3: // RSA2048, RSA4096, ECC384
			t.Errorf("%s has %d built-in roots, want 3", region, n)
		}
		if excepted {
			exceptions[region] = true
		}
		if partitionExcepted {
			exceptions[partition] = true
		}
	}
	for name, known := range exceptions {
		if !known {
			t.Errorf("docs/certificates.md lists %s, which the SDK does not know", name)
		}
	}
	for _, region := range slices.Sorted(maps.Keys(roots)) {
		if regions[region] == "" {
			t.Errorf("the SDK does not know %s, which has built-in roots", region)
		}
	}
}

// regionsOfSDK returns the partitions of the regions in the AWS SDK's list, which it does not
// export.
func regionsOfSDK(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "internal/endpoints/awsrulesfn/partitions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Partitions []struct {
			ID      string
			Regions map[string]any
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	regions := make(map[string]string)
	for _, partition := range list.Partitions {
		for region := range partition.Regions {
			if !strings.HasSuffix(region, "-global") { // for services without regions
				regions[region] = partition.ID
			}
		}
	}
	if len(regions) < 40 {
		t.Fatalf("%d regions: the SDK has more", len(regions))
	}
	return regions
}
