package check

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const helmPage = "../../../docs/kubernetes-helm.md"

// shared is the chart of the shared proxy.
const shared = chartDir("iamproxy")

// chartValues returns the required values of the chart, and others, as YAML.
func chartValues(t *testing.T, others string) map[string]any {
	t.Helper()
	values := map[string]any{}
	const required = "endpoint: mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com\nallowFrom: [10.0.0.0/16]\n"
	for _, text := range []string{required, others} {
		var some map[string]any
		if err := yaml.Unmarshal([]byte(text), &some); err != nil {
			t.Fatal(err)
		}
		maps.Copy(values, some)
	}
	return values
}

// The chart has the same objects as the kustomizations.
func TestChartEqualsBase(t *testing.T) {
	t.Parallel()
	for values, kustomization := range map[string]string{
		"{}":                           "resources: [shared]",
		"autoscaling: {enabled: true}": "resources: [shared]\ncomponents: [components/autoscaling]",
		"podMonitor: {enabled: true}\ntls: {certManager: {enabled: true}}": "resources: [shared]\ncomponents: [components/cert-manager, components/pod-monitor]",
	} {
		rendered, _, err := render(shared, chartValues(t, values))
		if err != nil {
			t.Errorf("%s: %v", values, err)
			continue
		}
		got, want := byName(t, rendered), byName(t, mustBuild(t, tree(t, kustomization)))
		for name := range want {
			if !reflect.DeepEqual(got[name], want[name]) {
				t.Errorf("%s: %s:\n%s\nwant\n%s", values, name, toYAML(t, got[name]), toYAML(t, want[name]))
			}
			delete(got, name)
		}
		for name := range got {
			t.Errorf("%s: %s is only in the chart", values, name)
		}
	}
}

var configHash = regexp.MustCompile(`^iamproxy-[a-z0-9]{10}$`)

// byName returns objects by kind and name, without what only Helm or only Kustomize adds.
func byName(t *testing.T, objects []runtime.Object) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, object := range objects {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(toYAML(t, object)), &o); err != nil {
			t.Fatal(err)
		}
		kind, metadata := o["kind"].(string), o["metadata"].(map[string]any)
		delete(metadata, "labels")
		if kind == "PodMonitor" { // that of the component is for all sidecars, too
			delete(o["spec"].(map[string]any), "selector")
		}
		stripped(o)
		found[kind+" "+metadata["name"].(string)] = o
	}
	return found
}

func stripped(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range []string{"app.kubernetes.io/instance", "checksum/config", "status", "creationTimestamp"} {
			delete(v, key)
		}
		for key := range v {
			if v[key] = stripped(v[key]); reflect.DeepEqual(v[key], map[string]any{}) {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = stripped(v[i])
		}
	case string:
		if configHash.MatchString(v) {
			return "iamproxy"
		}
		return strings.Join(strings.Fields(v), " ") // Kustomize adds empty lines to expressions
	}
	return value
}

func toYAML(t *testing.T, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// chartCases lists values of the chart under test.
var chartCases = map[string]string{
	"defaults":    "{}",
	"many":        "maxSessions: 20000\nreplicas: 9\nloginsPerSecond: 150\ndrainSeconds: 3600\nautoscaling: {enabled: true, maxReplicas: 12}",
	"flags":       "user: app\nconfig: {IAMPROXY_POOL: '8', IAMPROXY_LOG_LEVEL: debug}\nallowFrom: [10.0.0.0/16, 'fd00::/8']",
	"pods":        "imagePullSecrets: [{name: registry}]\npodLabels: {example.com/team: a}\npodAnnotations: {example.com/b: c}\nnodeSelector: {kubernetes.io/arch: arm64}\ntolerations: [{operator: Exists}]\npriorityClassName: high",
	"role":        "serviceAccount: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/app'}}",
	"no policies": "networkPolicy: {enabled: false}\ntls: {secretName: iamproxy-tls}\nresources: {requests: {cpu: 1}, limits: {memory: 1Gi}}",
	"few":         "maxSessions: 1\nreplicas: 1\ndrainSeconds: 10\nuser: '123'\nallowFrom: [10.0.0.1/32]",
	"numbers":     "maxSessions: 1e4\nloginsPerSecond: 200.0\nnetworkPolicy: {monitoringNamespace: '1e3'}\npriorityClassName: 'true'\nnodeSelector: {a: 'on'}",
	"environment": "extraEnv: [{name: AWS_REGION, value: eu-west-1}]\naffinity: {nodeAffinity: {}}\nservice: {annotations: {example.com/a: 'true'}}",
	"issuer":      "tls: {certManager: {enabled: true, issuer: {group: awspca.cert-manager.io, kind: AWSPCAClusterIssuer, name: '1'}}}\npodMonitor: {enabled: true, labels: {release: '1'}}",
}

// The chart passes the checks of the kustomizations and of Helm, with any values.
func TestChart(t *testing.T) {
	t.Parallel()
	for name, values := range chartCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := chartValues(t, values)
			if err := lintChart(shared, set); err != nil {
				t.Error(err)
			}
			objects, _, err := render(shared, set)
			if err == nil {
				err = checkObjects(t, objects, limit)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := lintChart(shared, nil); err != nil {
		t.Errorf("default values: %v", err)
	}
}

// The values of the page render, and its command names the chart.
func TestPageChart(t *testing.T) {
	t.Parallel()
	values := blocks(t, helmPage, "yaml", "")
	if len(values) != 2 {
		t.Fatalf("%d blocks of values, want 2", len(values))
	}
	for i, extra := range []string{"", values[1]} {
		objects, _, err := render(shared, chartValues(t, values[0]+extra))
		if err == nil {
			err = checkObjects(t, objects, limit)
		}
		if err != nil {
			t.Error(err)
			continue
		}
		account := named[*core.ServiceAccount](objects, "iamproxy")
		if named[*certmanager.Certificate](objects, "iamproxy") == nil || len(account.Annotations) != i {
			t.Errorf("%v %+v", objects, account)
		}
	}
	const registry = "oci://ghcr.io/iamproxy/charts/"
	commands := strings.Join(blocks(t, helmPage, "sh", "helm"), "")
	for _, want := range []string{" iamproxy " + registry + string(shared) + " --version 1.2.3 --namespace app ", " iamproxy-inject " + registry + string(inject) + " --version 1.2.3 "} {
		if !strings.Contains(commands, want) {
			t.Errorf("the commands lack %q: %s", want, commands)
		}
	}
	defaults, err := os.ReadFile(shared.path() + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var known map[string]any
	if err := yaml.Unmarshal(defaults, &known); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(helmPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-zA-Z.]+)` \\| (?:`?([^ `]+)`?)? ?\\|").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 10 {
		t.Fatalf("found %d rows", len(rows))
	}
	for _, row := range rows {
		value := any(known)
		for key := range strings.SplitSeq(row[1], ".") {
			var ok bool
			if value, ok = value.(map[string]any)[key]; !ok {
				t.Fatalf("no value %s", row[1])
			}
		}
		if text := fmt.Sprint(value); text != row[2] && row[2] != "" {
			t.Errorf("%s: the page has %s, the chart %s", row[1], row[2], text)
		}
	}
}

// Values of the chart have their effect.
func TestChartValues(t *testing.T) {
	t.Parallel()
	objects, notes, err := render(shared, chartValues(t, `
image: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3
user: app
maxSessions: 5000
replicas: 4
config: {IAMPROXY_POOL: "8"}
podLabels: {example.com/team: a}
serviceAccount: {create: false, name: shop}
networkPolicy: {enabled: false}
tls: {secretName: shop-tls}
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
extraVolumes: [{name: ca, secret: {secretName: clients}}]
extraVolumeMounts: [{name: ca, mountPath: /ca}]
resources: {requests: {cpu: 2}, limits: {cpu: 4}}
affinity: {podAntiAffinity: {}}
service: {annotations: {example.com/a: b}}
`))
	if err != nil {
		t.Fatal(err)
	}
	d := named[*apps.Deployment](objects, "iamproxy").Spec.Template
	c := d.Spec.Containers[0]
	config := named[*core.ConfigMap](objects, "iamproxy").Data
	for _, has := range []bool{
		c.Image == "111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3",
		c.Resources.Limits.Memory().String() == "992Mi",
		config["IAMPROXY_USER"] == "app", config["IAMPROXY_POOL"] == "8", config["IAMPROXY_MAX_SESSIONS"] == "5000", config["IAMPROXY_CONNECT_RATE"] == "40",
		d.Labels["example.com/team"] == "a", d.Spec.ServiceAccountName == "shop", d.Spec.Volumes[0].Secret.SecretName == "shop-tls",
		named[*core.ServiceAccount](objects, "shop") == nil,
		c.Env[0].Name == "HTTPS_PROXY", d.Spec.Volumes[1].Secret.SecretName == "clients", c.VolumeMounts[1].MountPath == "/ca",
		c.Resources.Requests.Cpu().String() == "2", c.Resources.Requests.Memory().String() == "128Mi", c.Resources.Limits.Cpu().String() == "4",
		d.Spec.Affinity.PodAntiAffinity != nil, named[*core.Service](objects, "iamproxy").Annotations["example.com/a"] == "b",
	} {
		if !has {
			t.Errorf("%s\n%v", toYAML(t, d), config)
			break
		}
	}
	for _, want := range []string{`"host=iamproxy.app.svc user=app dbname`, "service account shop needs", "create secret tls shop-tls", "at most 40 logins per second"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
}

// Values of the optional objects have their effect.
func TestChartOptions(t *testing.T) {
	t.Parallel()
	objects, _, err := render(shared, chartValues(t, `
networkPolicy: {from: [{ipBlock: {cidr: 10.1.0.0/16}}]}
podMonitor: {enabled: true, labels: {release: prometheus}}
tls: {certManager: {enabled: true, issuer: {group: awspca.cert-manager.io, kind: AWSPCAClusterIssuer, name: ca}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	policy, monitor := named[*networking.NetworkPolicy](objects, "iamproxy"), named[*monitoring.PodMonitor](objects, "iamproxy")
	if from := policy.Spec.Ingress[0].From; len(from) != 2 || from[1].IPBlock.CIDR != "10.1.0.0/16" {
		t.Errorf("the clients are %v", from)
	}
	if monitor.Labels["release"] != "prometheus" {
		t.Errorf("the PodMonitor has the labels %v", monitor.Labels)
	}
	if issuer := named[*certmanager.Certificate](objects, "iamproxy").Spec.IssuerRef; issuer.Group != "awspca.cert-manager.io" || issuer.Kind != "AWSPCAClusterIssuer" {
		t.Errorf("the issuer is %v", issuer)
	}
}

// The chart refuses values that cannot work, with the reason.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		`endpoint: ""`:                                  "endpoint is required: the endpoint of the database",
		"allowFrom: []":                                 "allowFrom is required: the networks of your pods",
		"allowFrom: [10.0.0.0]":                         "at '/allowFrom/0': '10.0.0.0' does not match pattern",
		"endpoints: [a]":                                "additional properties 'endpoints' not allowed",
		"replicas: two":                                 "at '/replicas': got string, want integer",
		"maxSessions: 0":                                "at '/maxSessions': minimum: got 0, want 1",
		"image: ghcr.io/iamproxy":                       "at '/image'",
		"config: {IAMPROXY_POOL: 8}":                    "at '/config/IAMPROXY_POOL': got number, want string",
		"config: {POOL: '8'}":                           "at '/config': additional properties 'POOL' not allowed",
		"config: {IAMPROXY_ADMIN: 'off'}":               "config.IAMPROXY_ADMIN cannot be set: the chart sets it",
		"config: {IAMPROXY_DRAIN_MAX: 5s}":              "config.IAMPROXY_DRAIN_MAX cannot be set: set the value drainSeconds",
		"serviceAccount: {create: false}":               "serviceAccount.name is required if serviceAccount.create is false",
		"loginsPerSecond: 2":                            "loginsPerSecond is 2, too few for 2 replicas",
		"autoscaling: {enabled: true, minReplicas: 5}":  "autoscaling.maxReplicas is 4, less than autoscaling.minReplicas, which is 5",
		"tls: {certManager: {issuer: {kind: Foo}}}":     "at '/tls/certManager/issuer/kind'",
		"image: iamproxy@sha256:abc":                    "at '/image'",
		"replicas: null":                                "missing property 'replicas'",
		"autoscaling: null":                             "missing property 'autoscaling'",
		"tls: {certManager: {issuer: null}}":            "missing property 'issuer'",
		"podLabels: {app.kubernetes.io/name: shop}":     "at '/podLabels/app.kubernetes.io~1name'",
		"podLabels: {example.com/team: 'a b'}":          "at '/podLabels/example.com~1team'",
		"podAnnotations: {checksum/config: a}":          "at '/podAnnotations/checksum~1config'",
		"resources: {requests: {cpu: 1 core}}":          "at '/resources/requests/cpu'",
		"extraEnv: [{name: IAMPROXY_POOL, value: '8'}]": "extraEnv cannot have IAMPROXY_POOL: set it in config",
		"endpoint: my db":                               "at '/endpoint'",
		"tolerations: [spot]":                           "at '/tolerations/0': got string, want object",
	} {
		_, _, err := render(shared, chartValues(t, values))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", values, err, want)
		}
	}
}
