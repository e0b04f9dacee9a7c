//go:build linux

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Request is an HTTP request.
type Request struct {
	Method string // GET if empty
	Path   string
	Query  url.Values
	Type   string // of the body; JSON if empty
	Body   []byte
	Token  Token // Admin if empty
}

// Do sends a request, and returns the body of the response, or its message as an error.
func (s *Server) Do(ctx context.Context, r Request) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, s.url+r.Path+"?"+r.Query.Encode(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	if r.Type == "" {
		r.Type = "application/json"
	}
	if r.Token == "" {
		r.Token = Admin
	}
	request.Header.Set("Content-Type", r.Type)
	request.Header.Set("Authorization", "Bearer "+string(r.Token))
	response, err := s.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusBadRequest {
		return body, nil
	}
	var status meta.Status
	if json.Unmarshal(body, &status) != nil {
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil, &StatusError{status}
}

// StatusError is a response of the API server with an error.
type StatusError struct{ meta.Status }

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// resource is the path of a kind.
type resource struct {
	name       string
	namespaced bool
}

// path returns the path of the objects of a kind in a namespace.
func (s *Server) path(ctx context.Context, apiVersion, kind, namespace string) (string, error) {
	prefix := "/apis/" + apiVersion
	if apiVersion == "v1" {
		prefix = "/api/v1"
	}
	found, ok := s.resources[apiVersion+" "+kind]
	if !ok {
		body, err := s.Do(ctx, Request{Path: prefix})
		if err != nil {
			return "", err
		}
		var list meta.APIResourceList
		if err := json.Unmarshal(body, &list); err != nil {
			return "", err
		}
		for _, r := range list.APIResources {
			if r.Kind == kind && !bytes.ContainsRune([]byte(r.Name), '/') {
				found, ok = resource{r.Name, r.Namespaced}, true
			}
		}
		if !ok {
			return "", fmt.Errorf("%s has no kind %s", apiVersion, kind)
		}
		s.resources[apiVersion+" "+kind] = found
	}
	if found.namespaced {
		prefix += "/namespaces/" + namespace
	}
	return prefix + "/" + found.name, nil
}

// Apply applies an object as `kubectl apply --server-side --validate=strict` does. It sets the
// namespace of an object that has one.
func (s *Server) Apply(ctx context.Context, object *unstructured.Unstructured, namespace string, token Token) error {
	path, err := s.path(ctx, object.GetAPIVersion(), object.GetKind(), namespace)
	if err != nil {
		return err
	}
	if object.GetNamespace() != "" {
		object = object.DeepCopy()
		object.SetNamespace(namespace)
	}
	body, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = s.Do(ctx, Request{
		Method: http.MethodPatch, Path: path + "/" + object.GetName(), Type: "application/apply-patch+yaml", Body: body, Token: token,
		Query: url.Values{"fieldManager": {"check"}, "fieldValidation": {"Strict"}, "force": {"true"}},
	})
	return err
}

// CreatePod creates a pod, and returns it as the API server admitted it. A dry run does not
// store it.
func (s *Server) CreatePod(ctx context.Context, namespace string, pod *core.Pod, dryRun bool) (*core.Pod, error) {
	body, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	query := url.Values{"fieldValidation": {"Strict"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	body, err = s.Do(ctx, Request{Method: http.MethodPost, Path: "/api/v1/namespaces/" + namespace + "/pods", Query: query, Body: body})
	if err != nil {
		return nil, err
	}
	admitted := &core.Pod{}
	return admitted, json.Unmarshal(body, admitted)
}
