// Package check tests the manifests in deploy/kubernetes: it builds them as kubectl apply -k
// does, decodes them as the API server does, and runs iamproxy as the kubelet does.
package check

import (
	"fmt"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	kyvernoapi "github.com/kyverno/api/api/policies.kyverno.io/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	registration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// scheme holds the kinds that the manifests use.
var scheme = runtime.NewScheme()

func init() {
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, autoscaling.AddToScheme, batch.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme,
		certmanager.AddToScheme, monitoring.AddToScheme, registration.AddToScheme, kyvernoapi.Install,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
}

// strict decodes YAML with the types of the API. An unknown or repeated field is an error.
var strict = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})

func decode(text []byte) (runtime.Object, error) {
	object, _, err := strict.Decode(text, nil, nil)
	return object, err
}

// resources returns what `kubectl kustomize DIR` prints.
func resources(dir string) ([]*resource.Resource, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	return built.Resources(), nil
}

// build returns the resources of a directory, decoded.
func build(dir string) ([]runtime.Object, error) {
	built, err := resources(dir)
	if err != nil {
		return nil, err
	}
	var objects []runtime.Object
	for _, resource := range built {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		object, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", resource.GetKind(), resource.GetName(), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// pod is the pod template of a Deployment or a Job.
type pod struct {
	of       string // kind and name of the object that has the template
	template core.PodTemplateSpec
	selector *meta.LabelSelector // nil for a Job
}

func pods(objects []runtime.Object) (found []pod) {
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.Deployment:
			found = append(found, pod{"Deployment " + o.Name, o.Spec.Template, o.Spec.Selector})
		case *batch.Job:
			found = append(found, pod{"Job " + o.Name, o.Spec.Template, nil})
		}
	}
	return found
}

// containers returns the containers of a pod, in the order in which they start.
func (p pod) containers() []core.Container {
	return append(append([]core.Container(nil), p.template.Spec.InitContainers...), p.template.Spec.Containers...)
}

// named returns the object of that kind and name, or nil.
func named[T interface {
	runtime.Object
	meta.Object
}](objects []runtime.Object, name string) (none T) {
	for _, object := range objects {
		if o, ok := object.(T); ok && o.GetName() == name {
			return o
		}
	}
	return none
}
