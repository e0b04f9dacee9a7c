// Package policy evaluates admission policies for pods with the packages of the API server. It
// does not evaluate the selectors of bindings, set defaults or validate pods.
package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	celgo "github.com/google/cel-go/cel"
	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
)

// A policy may use only expressions that are accepted by the first release with the kind
// MutatingAdmissionPolicy in v1. NewExpressions excludes newer ones.
var oldest = version.MajorMinor(1, 36)

const language = environment.NewExpressions

var (
	kind     = core.SchemeGroupVersion.WithKind("Pod")
	resource = core.SchemeGroupVersion.WithResource("pods")
	scheme   = runtime.NewScheme()
)

func init() {
	if err := core.AddToScheme(scheme); err != nil {
		panic(err)
	}
}

// expression is CEL with the types that its value may have.
type expression struct {
	name, text string
	types      []*celgo.Type
}

func (e expression) GetName() string            { return e.name }
func (e expression) GetExpression() string      { return e.text }
func (e expression) ReturnTypes() []*celgo.Type { return e.types }

var (
	anything = []*celgo.Type{celgo.AnyType, celgo.DynType}
	boolean  = []*celgo.Type{celgo.BoolType}
	text     = []*celgo.Type{celgo.StringType}
)

// compile compiles the variables and conditions of a policy.
func compile(variables []registration.Variable, conditions []registration.MatchCondition, options cel.OptionalVariableDeclarations) (*cel.CompositedCompiler, cel.ConditionEvaluator, error) {
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(oldest))
	if err != nil {
		return nil, nil, err
	}
	for _, v := range variables {
		if result := compiler.CompileAndStoreVariable(expression{v.Name, v.Expression, anything}, options, language); result.Error != nil {
			return nil, nil, fmt.Errorf("variable %s: %w", v.Name, result.Error)
		}
	}
	expressions := make([]cel.ExpressionAccessor, 0, len(conditions))
	for _, condition := range conditions {
		expressions = append(expressions, expression{condition.Name, condition.Expression, boolean})
	}
	matches := compiler.CompileCondition(expressions, options, language)
	return compiler, matches, errors.Join(matches.CompilationErrors()...)
}

// Request is the creation of a pod.
type Request struct {
	Namespace *core.Namespace
	Config    *core.ConfigMap // parameter of the MutatingAdmissionPolicy, or nil
	Pod       *core.Pod
}

// evaluation is the state of a request.
type evaluation struct {
	attributes *admission.VersionedAttributes
	bindings   cel.OptionalVariableBindings
	namespace  *core.Namespace
}

func newEvaluation(r Request) (evaluation, error) {
	pod := r.Pod.DeepCopy()
	pod.SetGroupVersionKind(kind)
	attributes, err := admission.NewVersionedAttributes(admission.NewAttributesRecord(pod, nil, kind, r.Namespace.Name, pod.Name, resource, "",
		admission.Create, &meta.CreateOptions{}, false, &user.DefaultInfo{}), kind, admission.NewObjectInterfacesFromScheme(scheme))
	return evaluation{
		attributes: attributes,
		bindings:   cel.OptionalVariableBindings{VersionedParams: r.Config},
		namespace:  r.Namespace,
	}, err
}

// values evaluates expressions.
func (e evaluation) values(ctx context.Context, of cel.ConditionEvaluator) ([]cel.EvaluationResult, error) {
	request := cel.CreateAdmissionRequest(e.attributes, meta.GroupVersionResource(resource), meta.GroupVersionKind(kind))
	results, _, err := of.ForInput(ctx, e.attributes, request, e.bindings, e.namespace, limits.RuntimeCELCostBudget)
	return results, err
}

// firstFalse returns the index of the first expression that is false, or -1.
func (e evaluation) firstFalse(ctx context.Context, of cel.ConditionEvaluator) (int, error) {
	results, err := e.values(ctx, of)
	if err != nil {
		return 0, err
	}
	for i, result := range results {
		switch {
		case result.Error != nil:
			return 0, fmt.Errorf("%s: %w", result.ExpressionAccessor.GetExpression(), result.Error)
		case result.EvalResult.Value() != true:
			return i, nil
		}
	}
	return -1, nil
}

// Mutating is a compiled MutatingAdmissionPolicy.
type Mutating struct {
	compiler   *cel.CompositedCompiler
	conditions cel.ConditionEvaluator
	patchers   []patch.Patcher
}

// CompileMutating returns an error if the API server would reject an expression.
func CompileMutating(policy *registration.MutatingAdmissionPolicy) (*Mutating, error) {
	options := cel.OptionalVariableDeclarations{HasParams: policy.Spec.ParamKind != nil}
	compiler, conditions, err := compile(policy.Spec.Variables, policy.Spec.MatchConditions, options)
	if err != nil {
		return nil, err
	}
	m := &Mutating{compiler: compiler, conditions: conditions}
	options.HasPatchTypes = true
	for i, mutation := range policy.Spec.Mutations {
		compiled := compiler.CompileMutatingEvaluator(&patch.JSONPatchCondition{Expression: mutation.JSONPatch.Expression}, options, language)
		if err := errors.Join(compiled.CompilationErrors()...); err != nil {
			return nil, fmt.Errorf("mutation %d: %w", i, err)
		}
		m.patchers = append(m.patchers, patch.NewJSONPatcher(compiled))
	}
	return m, nil
}

// Mutate returns the pod with the changes of the policy.
func (m *Mutating) Mutate(ctx context.Context, r Request) (*core.Pod, error) {
	if r.Config == nil {
		return r.Pod, nil
	}
	e, err := newEvaluation(r)
	if err != nil {
		return nil, err
	}
	ctx = m.compiler.CreateContext(ctx)
	if i, err := e.firstFalse(ctx, m.conditions); err != nil || i >= 0 {
		return r.Pod, err
	}
	for _, patcher := range m.patchers {
		changed, err := patcher.Patch(ctx, patch.Request{
			MatchedResource: resource, VersionedAttributes: e.attributes, OptionalVariables: e.bindings, Namespace: e.namespace,
			ObjectInterfaces: admission.NewObjectInterfacesFromScheme(scheme),
		}, limits.RuntimeCELCostBudget)
		if err != nil {
			return nil, err
		}
		e.attributes.UpdateObject(changed)
	}
	return e.attributes.VersionedObject.Object().(*core.Pod), nil
}

// Validating is a compiled ValidatingAdmissionPolicy.
type Validating struct {
	compiler                         *cel.CompositedCompiler
	conditions, validations, message cel.ConditionEvaluator
	texts                            []string // of validations without an expression for their message
}

// CompileValidating returns an error if the API server would reject an expression.
func CompileValidating(policy *registration.ValidatingAdmissionPolicy) (*Validating, error) {
	compiler, conditions, err := compile(policy.Spec.Variables, policy.Spec.MatchConditions, cel.OptionalVariableDeclarations{})
	if err != nil {
		return nil, err
	}
	v := &Validating{compiler: compiler, conditions: conditions}
	var validations, messages []cel.ExpressionAccessor
	for _, validation := range policy.Spec.Validations {
		validations = append(validations, expression{text: validation.Expression, types: boolean})
		message := validation.MessageExpression
		if message == "" {
			message = "''"
		}
		messages = append(messages, expression{text: message, types: text})
		v.texts = append(v.texts, validation.Message)
	}
	v.validations = compiler.CompileCondition(validations, cel.OptionalVariableDeclarations{}, language)
	v.message = compiler.CompileCondition(messages, cel.OptionalVariableDeclarations{}, language)
	return v, errors.Join(append(v.validations.CompilationErrors(), v.message.CompilationErrors()...)...)
}

// maxMessage is the API server's limit for messages, in bytes.
const maxMessage = 5 << 10

// Validate returns the message with which the policy rejects the pod, or "".
func (v *Validating) Validate(ctx context.Context, r Request) (string, error) {
	e, err := newEvaluation(r)
	if err != nil {
		return "", err
	}
	ctx = v.compiler.CreateContext(ctx)
	if i, err := e.firstFalse(ctx, v.conditions); err != nil || i >= 0 {
		return "", err
	}
	failed, err := e.firstFalse(ctx, v.validations)
	if err != nil || failed < 0 {
		return "", err
	}
	if v.texts[failed] != "" {
		return v.texts[failed], nil
	}
	messages, err := e.values(ctx, v.message)
	if err != nil {
		return "", err
	}
	if err := messages[failed].Error; err != nil {
		return "", err
	}
	message := messages[failed].EvalResult.Value().(string)
	// The API server shows the expression in place of such a message.
	if message == "" || strings.ContainsAny(message, "\r\n") || len(message) > maxMessage {
		return "", fmt.Errorf("the API server would not show the message %q", message)
	}
	return message, nil
}
