package check

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurityapi "k8s.io/pod-security-admission/api"
	podsecurity "k8s.io/pod-security-admission/policy"
)

// byHand lists the Secrets that users create with commands of the pages.
var byHand = []string{"iamproxy-admin", "iamproxy-tls"}

// defaultDrainMax is the default of --drain-max.
const defaultDrainMax = 25 * time.Second

// inconsistent returns the errors that the types do not find: whether the objects fit each
// other.
func inconsistent(objects []runtime.Object) error {
	var wrong []error
	all := pods(objects)
	for _, object := range objects {
		if job, ok := object.(*batch.Job); ok && !failsAtOnce(job) {
			wrong = append(wrong, fmt.Errorf("exit code 2 of iamproxy grant is retried in Job %s", job.Name))
		}
	}
	for _, p := range all {
		for _, err := range []error{p.secure(), p.references(objects), p.selectsItself(), p.qualified(), p.ends(objects)} {
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", p.of, err))
			}
		}
		for _, c := range p.containers() {
			if err := p.container(c, objects); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: container %s: %w", p.of, c.Name, err))
			}
		}
	}
	for _, object := range objects {
		for _, err := range []error{fits(object, all, objects), staysBelowLimit(object, objects)} {
			if err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	return errors.Join(wrong...)
}

// failsAtOnce reports whether a Job of iamproxy grant ends when the container exits with code 2,
// which no retry changes. Other Jobs may retry.
func failsAtOnce(job *batch.Job) bool {
	spec := job.Spec.Template.Spec
	grants := slices.IndexFunc(spec.Containers, func(c core.Container) bool { return isIamproxy(c) && !serves(c) })
	if grants < 0 {
		return true
	}
	if job.Spec.PodFailurePolicy == nil || spec.RestartPolicy != core.RestartPolicyNever { // the API requires Never
		return false
	}
	return slices.ContainsFunc(job.Spec.PodFailurePolicy.Rules, func(rule batch.PodFailurePolicyRule) bool {
		codes := rule.OnExitCodes
		return rule.Action == batch.PodFailurePolicyActionFailJob && codes != nil && codes.Operator == batch.PodFailurePolicyOnExitCodesOpIn &&
			slices.Contains(codes.Values, 2) && codes.ContainerName != nil && *codes.ContainerName == spec.Containers[grants].Name
	})
}

// secure checks a pod against the "restricted" Pod Security Standard.
func (p pod) secure() error {
	evaluator, err := podsecurity.NewEvaluator(podsecurity.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	level := podsecurityapi.LevelVersion{Level: podsecurityapi.LevelRestricted, Version: podsecurityapi.LatestVersion()}
	result := podsecurity.AggregateCheckResults(evaluator.EvaluatePod(level, &p.template.ObjectMeta, &p.template.Spec))
	if !result.Allowed {
		return errors.New("not restricted: " + result.ForbiddenDetail())
	}
	return nil
}

// references returns an error for each name of an object that does not exist.
func (p pod) references(objects []runtime.Object) error {
	var wrong []error
	name := p.template.Spec.ServiceAccountName
	switch account := named[*core.ServiceAccount](objects, name); {
	case account == nil:
		wrong = append(wrong, fmt.Errorf("no ServiceAccount %s", name))
	case account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken:
		wrong = append(wrong, fmt.Errorf("ServiceAccount %s gives pods a token of the Kubernetes API", name))
	}
	for _, volume := range p.template.Spec.Volumes {
		switch {
		case volume.ConfigMap != nil:
			if named[*core.ConfigMap](objects, volume.ConfigMap.Name) == nil {
				wrong = append(wrong, fmt.Errorf("no ConfigMap %s", volume.ConfigMap.Name))
			}
		case volume.Secret == nil:
			wrong = append(wrong, fmt.Errorf("volume %s has an unexpected type", volume.Name))
		case !slices.Contains(byHand, volume.Secret.SecretName):
			wrong = append(wrong, fmt.Errorf("no page creates the Secret %s", volume.Secret.SecretName))
		}
	}
	for _, c := range p.containers() {
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(p.template.Spec.Volumes, func(v core.Volume) bool { return v.Name == mount.Name }) {
				wrong = append(wrong, fmt.Errorf("container %s: no volume %s", c.Name, mount.Name))
			}
		}
	}
	return errors.Join(wrong...)
}

func (p pod) selectsItself() error {
	if p.selector == nil {
		return nil
	}
	return p.selected(p.selector)
}

// qualified requires a prefix in the keys of labels.
func (p pod) qualified() error {
	for key := range p.template.Labels {
		if !strings.Contains(key, "/") {
			return fmt.Errorf("the label %s has no prefix", key)
		}
	}
	return nil
}

func (p pod) selected(by *meta.LabelSelector) error {
	selector, err := meta.LabelSelectorAsSelector(by)
	if err != nil {
		return err
	}
	if !selector.Matches(labels.Set(p.template.Labels)) {
		return fmt.Errorf("the selector %s does not match", selector)
	}
	return nil
}

// ends checks that iamproxy is not killed while it drains.
func (p pod) ends(objects []runtime.Object) error {
	for _, c := range p.containers() {
		if !serves(c) {
			continue
		}
		env, err := environment(c, objects)
		if err != nil {
			return err
		}
		drain := defaultDrainMax
		if text := env["IAMPROXY_DRAIN_MAX"]; text != "" {
			if drain, err = time.ParseDuration(text); err != nil {
				return err
			}
		}
		grace := 30 * time.Second
		if seconds := p.template.Spec.TerminationGracePeriodSeconds; seconds != nil {
			grace = time.Duration(*seconds) * time.Second
		}
		if drain >= grace {
			return fmt.Errorf("IAMPROXY_DRAIN_MAX is %s, but the kubelet kills after %s", drain, grace)
		}
	}
	return nil
}

func (p pod) container(c core.Container, objects []runtime.Object) error {
	if c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
		return errors.New("requests of cpu and memory or the limit of memory are missing")
	}
	for name, most := range c.Resources.Limits {
		if request := c.Resources.Requests[name]; request.Cmp(most) > 0 { // the API rejects it
			return fmt.Errorf("the request of %s is above the limit", name)
		}
	}
	for _, variable := range c.Env {
		if variable.Value != "" && variable.ValueFrom != nil { // the API rejects it
			return fmt.Errorf("%s has both a value and a source", variable.Name)
		}
	}
	env, err := environment(c, objects)
	if err != nil {
		return err
	}
	if sessions, err := strconv.ParseInt(env["IAMPROXY_MAX_SESSIONS"], 10, 64); err == nil && 28<<20+sessions*192<<10 > c.Resources.Limits.Memory().Value() {
		return fmt.Errorf("the memory limit is too low for %d sessions (docs/running.md)", sessions)
	}
	for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe == nil {
			continue
		}
		if probe.HTTPGet == nil { // a command would start a process each time
			return errors.New("a probe is not an HTTP request")
		}
		number := portOf([]core.Container{c}, probe.HTTPGet.Port)
		if _, admin, _ := net.SplitHostPort(env["IAMPROXY_ADMIN"]); admin != strconv.Itoa(int(number)) {
			return fmt.Errorf("a probe connects to port %s, but IAMPROXY_ADMIN is %q", probe.HTTPGet.Port.String(), env["IAMPROXY_ADMIN"])
		}
	}
	switch {
	case serves(c) && (c.StartupProbe == nil || c.LivenessProbe == nil):
		return errors.New("a probe is missing")
	case serves(c) && c.LivenessProbe.HTTPGet.Path != "/livez":
		return fmt.Errorf("the liveness probe is %s", c.LivenessProbe.HTTPGet.Path)
	case serves(c) && len(p.template.Spec.InitContainers) > 0:
		first := p.template.Spec.InitContainers[0]
		if !serves(first) || first.RestartPolicy == nil || *first.RestartPolicy != core.ContainerRestartPolicyAlways {
			return errors.New("not a native sidecar: it must be the first init container, with restartPolicy Always")
		}
	case env["PGUSER"] != "" && env["PGHOST"] != "localhost":
		return fmt.Errorf("PGHOST is %q, but iamproxy listens on localhost", env["PGHOST"])
	}
	return nil
}

// portOf returns the number of a port of the containers, or 0.
func portOf(containers []core.Container, port intstr.IntOrString) int32 {
	for _, c := range containers {
		for _, has := range c.Ports {
			if port.Type == intstr.String && has.Name == port.StrVal || port.Type == intstr.Int && has.ContainerPort == port.IntVal {
				return has.ContainerPort
			}
		}
	}
	return 0
}

// fits checks that an object selects a pod, and refers only to ports of the pod.
func fits(object runtime.Object, all []pod, objects []runtime.Object) error {
	var by *meta.LabelSelector
	var ports []intstr.IntOrString
	var name string
	switch o := object.(type) {
	case *core.Service:
		name, by = "Service "+o.Name, &meta.LabelSelector{MatchLabels: o.Spec.Selector}
		for _, port := range o.Spec.Ports {
			ports = append(ports, port.TargetPort)
		}
	case *autoscaling.HorizontalPodAutoscaler:
		return scales(o, objects)
	case *policy.PodDisruptionBudget:
		name, by = "PodDisruptionBudget "+o.Name, o.Spec.Selector
	case *networking.NetworkPolicy:
		name, by = "NetworkPolicy "+o.Name, &o.Spec.PodSelector
		for _, rule := range o.Spec.Ingress {
			for _, port := range rule.Ports {
				if port.Port.Type == intstr.String { // the VPC CNI finds no names of ports of init containers
					return fmt.Errorf("%s: port %s is a name", name, port.Port)
				}
				ports = append(ports, *port.Port)
			}
		}
	case *monitoring.PodMonitor:
		name, by = "PodMonitor "+o.Name, &o.Spec.Selector
		for _, endpoint := range o.Spec.PodMetricsEndpoints {
			ports = append(ports, intstr.FromString(*endpoint.Port))
		}
	case *certmanager.Certificate:
		if !slices.Contains(byHand, o.Spec.SecretName) {
			return fmt.Errorf("%s: no pod uses the Secret %s", "Certificate "+o.Name, o.Spec.SecretName)
		}
		for _, name := range o.Spec.DNSNames {
			service, _, _ := strings.Cut(name, ".")
			if named[*core.Service](objects, service) == nil {
				return fmt.Errorf("%s: no Service for %s", "Certificate "+o.Name, name)
			}
		}
		return nil
	default:
		return nil
	}
	for _, p := range all {
		if err := p.selected(by); err != nil {
			continue
		}
		for _, port := range ports {
			if portOf(p.containers(), port) == 0 {
				return fmt.Errorf("%s: %s has no port %s", name, p.of, port.String())
			}
		}
		return nil
	}
	return fmt.Errorf("%s: selects no pod", name)
}
