// Command provider stands in for Terraform's providers for AWS and archives. It has the schemas of
// the resources that the configurations below deploy/ use, and creates nothing: the attributes that
// AWS would choose are made up.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// schemas is written by schema.mjs.
//
//go:embed schema.json
var schemas []byte

const (
	account = "111122223333"
	region  = "eu-west-1"
)

// found has the attributes of the data sources.
var found = map[string]map[string]string{
	"archive_file":        {"output_base64sha256": "made up"},
	"aws_caller_identity": {"account_id": account},
	"aws_partition":       {"partition": "aws"},
	"aws_region":          {"region": region},
	"aws_rds_cluster": {
		"endpoint":            "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com",
		"cluster_resource_id": "cluster-ABCDEFGHIJKL01234",
	},
}

func main() {
	p, err := newProvider()
	if err == nil {
		err = tf5server.Serve("registry.terraform.io/hashicorp/aws", func() tfprotov5.ProviderServer { return p })
	}
	if err != nil {
		log.Fatal(err)
	}
}

// provider implements the methods that validate, test and apply call. The others panic.
type provider struct {
	tfprotov5.ProviderServer
	resources, data map[string]*tfprotov5.Schema
}

func newProvider() (*provider, error) {
	var file struct {
		Resources map[string]struct{ Block block } `json:"resource_schemas"`
		Data      map[string]struct{ Block block } `json:"data_source_schemas"`
	}
	if err := json.Unmarshal(schemas, &file); err != nil {
		return nil, err
	}
	p := &provider{resources: map[string]*tfprotov5.Schema{}, data: map[string]*tfprotov5.Schema{}}
	for name, s := range file.Resources {
		p.resources[name] = &tfprotov5.Schema{Block: s.Block.schema()}
	}
	for name, s := range file.Data {
		p.data[name] = &tfprotov5.Schema{Block: s.Block.schema()}
	}
	return p, nil
}

func (p *provider) GetMetadata(context.Context, *tfprotov5.GetMetadataRequest) (*tfprotov5.GetMetadataResponse, error) {
	answer := &tfprotov5.GetMetadataResponse{ServerCapabilities: &tfprotov5.ServerCapabilities{GetProviderSchemaOptional: true}}
	for name := range p.resources {
		answer.Resources = append(answer.Resources, tfprotov5.ResourceMetadata{TypeName: name})
	}
	for name := range p.data {
		answer.DataSources = append(answer.DataSources, tfprotov5.DataSourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (p *provider) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return &tfprotov5.GetProviderSchemaResponse{
		Provider:          &tfprotov5.Schema{Block: &tfprotov5.SchemaBlock{}},
		ResourceSchemas:   p.resources,
		DataSourceSchemas: p.data,
	}, nil
}

func (p *provider) GetResourceIdentitySchemas(context.Context, *tfprotov5.GetResourceIdentitySchemasRequest) (*tfprotov5.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov5.GetResourceIdentitySchemasResponse{}, nil
}

func (p *provider) PrepareProviderConfig(_ context.Context, r *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (p *provider) ConfigureProvider(context.Context, *tfprotov5.ConfigureProviderRequest) (*tfprotov5.ConfigureProviderResponse, error) {
	return &tfprotov5.ConfigureProviderResponse{}, nil
}

func (p *provider) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}

func (p *provider) ValidateResourceTypeConfig(context.Context, *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	return &tfprotov5.ValidateResourceTypeConfigResponse{}, nil
}

func (p *provider) ValidateDataSourceConfig(context.Context, *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	return &tfprotov5.ValidateDataSourceConfigResponse{}, nil
}

func (p *provider) ReadDataSource(_ context.Context, r *tfprotov5.ReadDataSourceRequest) (*tfprotov5.ReadDataSourceResponse, error) {
	state, err := change(r.Config, p.data[r.TypeName], func(name string, kind tftypes.Type, value tftypes.Value) tftypes.Value {
		if text, ok := found[r.TypeName][name]; ok {
			return tftypes.NewValue(kind, text)
		}
		return value
	})
	return &tfprotov5.ReadDataSourceResponse{State: state}, err
}

// UpgradeResourceState returns the state as it is: there is only one version of each schema.
func (p *provider) UpgradeResourceState(_ context.Context, r *tfprotov5.UpgradeResourceStateRequest) (*tfprotov5.UpgradeResourceStateResponse, error) {
	kind := p.resources[r.TypeName].ValueType()
	value, err := r.RawState.Unmarshal(kind)
	if err != nil {
		return nil, err
	}
	state, err := tfprotov5.NewDynamicValue(kind, value)
	return &tfprotov5.UpgradeResourceStateResponse{UpgradedState: &state}, err
}

func (p *provider) ReadResource(_ context.Context, r *tfprotov5.ReadResourceRequest) (*tfprotov5.ReadResourceResponse, error) {
	return &tfprotov5.ReadResourceResponse{NewState: r.CurrentState}, nil
}

// PlanResourceChange leaves the attributes that AWS chooses unknown.
func (p *provider) PlanResourceChange(_ context.Context, r *tfprotov5.PlanResourceChangeRequest) (*tfprotov5.PlanResourceChangeResponse, error) {
	schema := p.resources[r.TypeName]
	planned, err := change(r.ProposedNewState, schema, func(name string, kind tftypes.Type, value tftypes.Value) tftypes.Value {
		if value.IsNull() && computed(schema, name) {
			return tftypes.NewValue(kind, tftypes.UnknownValue)
		}
		return value
	})
	return &tfprotov5.PlanResourceChangeResponse{PlannedState: planned}, err
}

// ApplyResourceChange makes up the attributes that are unknown.
func (p *provider) ApplyResourceChange(_ context.Context, r *tfprotov5.ApplyResourceChangeRequest) (*tfprotov5.ApplyResourceChangeResponse, error) {
	schema := p.resources[r.TypeName]
	state, err := change(r.PlannedState, schema, func(name string, kind tftypes.Type, value tftypes.Value) tftypes.Value {
		switch {
		case value.IsKnown():
			return value
		case !kind.Is(tftypes.String):
			return tftypes.NewValue(kind, nil)
		case name == "arn":
			return tftypes.NewValue(kind, fmt.Sprintf("arn:aws:%s:%s:%s:new", r.TypeName, region, account))
		}
		return tftypes.NewValue(kind, r.TypeName+"-"+name)
	})
	return &tfprotov5.ApplyResourceChangeResponse{NewState: state}, err
}

// change returns an object with its attributes and blocks replaced. Null stays null.
func change(in *tfprotov5.DynamicValue, schema *tfprotov5.Schema, replace func(string, tftypes.Type, tftypes.Value) tftypes.Value) (*tfprotov5.DynamicValue, error) {
	object := schema.ValueType().(tftypes.Object)
	value, err := in.Unmarshal(object)
	if err != nil || value.IsNull() {
		return in, err
	}
	var fields map[string]tftypes.Value
	if err := value.As(&fields); err != nil {
		return nil, err
	}
	for name, field := range fields {
		fields[name] = replace(name, object.AttributeTypes[name], field)
	}
	out, err := tfprotov5.NewDynamicValue(object, tftypes.NewValue(object, fields))
	return &out, err
}

func computed(schema *tfprotov5.Schema, name string) bool {
	return slices.ContainsFunc(schema.Block.Attributes, func(a *tfprotov5.SchemaAttribute) bool { return a.Name == name && a.Computed })
}

// block is a block in the form of `terraform providers schema -json`.
type block struct {
	Attributes map[string]struct {
		Type                         json.RawMessage
		Required, Optional, Computed bool
	}
	BlockTypes map[string]struct {
		NestingMode string `json:"nesting_mode"`
		MinItems    int64  `json:"min_items"`
		MaxItems    int64  `json:"max_items"`
		Block       block
	} `json:"block_types"`
}

var nesting = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"list":   tfprotov5.SchemaNestedBlockNestingModeList,
	"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
}

func (b block) schema() *tfprotov5.SchemaBlock {
	result := &tfprotov5.SchemaBlock{}
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		a := b.Attributes[name]
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // the library's own, of which it says only that the format may change
		if err != nil {
			panic(err)
		}
		result.Attributes = append(result.Attributes, &tfprotov5.SchemaAttribute{
			Name: name, Type: kind, Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(b.BlockTypes)) {
		nested := b.BlockTypes[name]
		result.BlockTypes = append(result.BlockTypes, &tfprotov5.SchemaNestedBlock{
			TypeName: name, Nesting: nesting[nested.NestingMode], MinItems: nested.MinItems, MaxItems: nested.MaxItems, Block: nested.Block.schema(),
		})
	}
	return result
}
