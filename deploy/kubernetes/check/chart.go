package check

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/runtime"
)

// chartDir is a directory in deploy/helm.
type chartDir string

func (d chartDir) path() string { return "../../helm/" + string(d) }

// render is renderFor a release of Kubernetes that has all kinds of the charts.
func render(dir chartDir, values map[string]any) (objects []runtime.Object, notes string, err error) {
	return renderFor("v1.37.2", dir, values)
}

// renderFor returns the decoded objects of renderTexts.
func renderFor(kubernetes string, dir chartDir, values map[string]any) (objects []runtime.Object, notes string, err error) {
	texts, notes, err := renderTexts(kubernetes, dir, values)
	if err != nil {
		return nil, "", err
	}
	for _, text := range texts {
		object, err := decode([]byte(text))
		if err != nil {
			return nil, "", fmt.Errorf("%w\n%s", err, text)
		}
		objects = append(objects, object)
	}
	return objects, notes, nil
}

// renderTexts returns the objects of `helm template iamproxy DIR --kube-version VERSION`, in the
// namespace app, and the notes. Like Helm, it checks the values against the schema of the chart.
func renderTexts(kubernetes string, dir chartDir, values map[string]any) (texts []string, notes string, err error) {
	version, err := common.ParseKubeVersion(kubernetes)
	if err != nil {
		return nil, "", err
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	chart, err := loader.LoadDir(dir.path())
	if err != nil {
		return nil, "", err
	}
	release := common.ReleaseOptions{Name: "iamproxy", Namespace: "app", IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, capabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, "", err
	}
	for name, text := range files {
		if path.Base(name) == "NOTES.txt" {
			notes = text
			continue
		}
		for document := range strings.SplitSeq(text, "\n---\n") {
			if strings.TrimSpace(document) != "" {
				texts = append(texts, document)
			}
		}
	}
	return texts, notes, nil
}

// lintChart returns the errors and warnings of `helm lint --strict`.
func lintChart(dir chartDir, values map[string]any) error {
	var wrong []error
	for _, message := range lint.RunAll(dir.path(), values, "app").Messages {
		if message.Severity >= support.WarningSev {
			wrong = append(wrong, message)
		}
	}
	return errors.Join(wrong...)
}
