package check

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyconvert "github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are the functions of Terraform that the values of a module use.
var functions = map[string]function.Function{
	"coalesce":   stdlib.CoalesceFunc,
	"concat":     stdlib.ConcatFunc,
	"jsonencode": stdlib.JSONEncodeFunc,
	"length":     stdlib.LengthFunc,
	"merge":      stdlib.MergeFunc,
	"regex":      stdlib.RegexFunc,
	"sort":       stdlib.SortFunc,
	"tomap":      stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
	"tonumber":   stdlib.MakeToFunc(cty.Number),
	"try":        tryfunc.TryFunc,
}

// module is a Terraform module without its resources.
type module struct {
	variables, locals, outputs map[string]hcl.Expression
	types                      map[string]cty.Type
}

// parseModule reads the files of a directory.
func parseModule(dir string) (*module, error) {
	m := &module{variables: map[string]hcl.Expression{}, locals: map[string]hcl.Expression{}, outputs: map[string]hcl.Expression{}, types: map[string]cty.Type{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no module in %s", dir)
	}
	for _, name := range names {
		text, err2 := os.ReadFile(name)
		file, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
		if err := errors.Join(err2, failed(diags)); err != nil {
			return nil, err
		}
		for _, block := range file.Body.(*hclsyntax.Body).Blocks {
			if err := m.add(block); err != nil {
				return nil, err
			}
		}
	}
	return m, err
}

func (m *module) add(block *hclsyntax.Block) error {
	attributes := block.Body.Attributes
	switch block.Type {
	case "locals":
		for name, attribute := range attributes {
			m.locals[name] = attribute.Expr
		}
	case "output":
		m.outputs[block.Labels[0]] = attributes["value"].Expr
	case "variable":
		kind, diags := typeexpr.TypeConstraint(attributes["type"].Expr)
		m.types[block.Labels[0]] = kind
		if value, ok := attributes["default"]; ok {
			m.variables[block.Labels[0]] = value.Expr
		}
		return failed(diags)
	}
	return nil
}

// output returns the value of an output. The data sources and resources have the attributes in known.
func (m *module) output(name string, inputs, known map[string]cty.Value) (cty.Value, error) {
	vars := map[string]cty.Value{}
	for name, kind := range m.types {
		value, ok := inputs[name]
		if expr := m.variables[name]; !ok && expr != nil {
			value, _ = expr.Value(nil) // a constant
		} else if !ok {
			return cty.NilVal, fmt.Errorf("%s is required", name)
		}
		var err error
		if vars[name], err = ctyconvert.Convert(value, kind); err != nil {
			return cty.NilVal, fmt.Errorf("%s: %w", name, err)
		}
	}
	for name := range inputs {
		if _, ok := m.types[name]; !ok {
			return cty.NilVal, fmt.Errorf("no variable %s", name)
		}
	}
	e := evaluation{module: m, scope: maps.Clone(known), locals: map[string]cty.Value{}}
	e.scope["var"] = cty.ObjectVal(vars)
	expr, ok := m.outputs[name]
	if !ok {
		return cty.NilVal, fmt.Errorf("no output %s", name)
	}
	return e.value(expr)
}

type evaluation struct {
	*module
	scope, locals map[string]cty.Value
}

// value evaluates an expression after the locals that it refers to. Terraform refuses a cycle of them.
func (e evaluation) value(expr hcl.Expression) (cty.Value, error) {
	for _, traversal := range expr.Variables() {
		if traversal.RootName() != "local" {
			continue
		}
		name := traversal[1].(hcl.TraverseAttr).Name
		if _, ok := e.locals[name]; ok {
			continue
		}
		local, ok := e.module.locals[name]
		if !ok {
			return cty.NilVal, fmt.Errorf("no local value %s", name)
		}
		var err error
		if e.locals[name], err = e.value(local); err != nil {
			return cty.NilVal, err
		}
	}
	scope := maps.Clone(e.scope)
	scope["local"] = cty.ObjectVal(e.locals)
	value, diags := expr.Value(&hcl.EvalContext{Variables: scope, Functions: functions})
	return value, failed(diags)
}

// failed returns the diagnostics as an error. A nil value of them is not a nil error.
func failed(diags hcl.Diagnostics) error {
	if diags.HasErrors() {
		return diags
	}
	return nil
}
