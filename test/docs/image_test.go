package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	imageReference = regexp.MustCompile("[^\\s\"'`()=|]*/iamproxy:[^\\s\"'`(),|]+")
	imageName      = regexp.MustCompile(`^(ghcr\.io/iamproxy|111122223333\.dkr\.ecr\.eu-west-1\.amazonaws\.com)/iamproxy:v1\.2\.3(@sha256:(DIGEST|[0-9a-f]{64}))?$`)
)

// Pages and deployments name one version of the image: that of the project, or its copy in ECR.
func TestImageReferences(t *testing.T) {
	n := 0
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains([]string{".git", "bin", "build", "dist", "node_modules"}, entry.Name()) || path.Base(file) == "check"):
			return fs.SkipDir
		case !strings.HasSuffix(file, ".md") && (!strings.HasPrefix(file, "deploy/") || !slices.Contains([]string{".json", ".yaml", ".ts"}, path.Ext(file))):
			return nil
		}
		for _, reference := range imageReference.FindAllString(read(t, file), -1) {
			n++
			if !imageName.MatchString(strings.TrimPrefix(reference, "oci://")) {
				t.Errorf("%s: %s", file, reference)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 10 {
		t.Errorf("found %d references: there are more", n)
	}
}
