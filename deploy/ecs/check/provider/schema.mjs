// Writes schema.json, the schemas of the resources that the configurations below deploy/ use. They
// come from packages that are generated from the schemas of the providers, unpacked in the working
// directory:
//
//	for package in provider-aws@25.7.0 provider-archive@14.0.1; do
//		tar xzf $(npm pack --silent @cdktn/$package) --one-top-level=${package%@*} --strip-components=1
//	done
//	node schema.mjs >schema.json
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const resources = [
  'aws_cloudwatch_log_group', 'aws_ecs_service', 'aws_ecs_task_definition', 'aws_iam_role', 'aws_iam_role_policy',
  'aws_iam_role_policy_attachment', 'aws_lambda_function', 'aws_lambda_layer_version', 'aws_vpc_security_group_ingress_rule',
];
const dataSources = ['archive_file', 'aws_caller_identity', 'aws_partition', 'aws_rds_cluster', 'aws_region'];

const lower = (name) => name[0].toLowerCase() + name.slice(1);
const upper = (name) => name[0].toUpperCase() + name.slice(1);

/** Returns the type of an attribute in cty's notation. */
function ctyType(name, kind, element) {
  const types = { string: 'string', number: 'number', boolean: 'bool' };
  if (types[element]) {
    return types[element];
  }
  const [, of, collection] = /^(string|number|boolean)(List|Map)$/.exec(element) ?? [];
  if (!of) {
    throw new Error(`${name}: unknown type ${element}`);
  }
  return [collection === 'Map' ? 'map' : kind === 'set' ? 'set' : 'list', types[of]];
}

/** Returns the type of an attribute that cannot be set, by the getter that reads it. */
function readType(name, getter) {
  const [, scalar] = /get(String|Number|Boolean)Attribute\(/.exec(getter) ?? [];
  if (scalar) {
    return scalar === 'Boolean' ? 'bool' : scalar.toLowerCase();
  }
  const [, map] = /new cdktn\.(String|Number|Boolean)Map\(/.exec(getter) ?? [];
  if (map) {
    return ['map', map === 'Boolean' ? 'bool' : map.toLowerCase()];
  }
  if (/getListAttribute\(/.test(getter)) {
    return [/Fn\.tolist\(/.test(getter) ? 'set' : 'list', 'string'];
  }
  return 'dynamic'; // a list of objects
}

/** Returns the block that a class of the source stands for. */
function block(source, className, attributesOf) {
  const start = source.indexOf(`class ${className} extends`);
  const body = source.slice(start, source.indexOf('\n}\n', start));
  const attributes = {};
  const blocks = {};
  const pattern = /\/\/ (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n([^]*?)\n    }/g;
  for (const [, name, computed, optional, required, getter] of body.matchAll(pattern)) {
    const flags = Object.fromEntries(Object.entries({ required, optional, computed }).filter(([, flag]) => flag === 'true').map(([flag]) => [flag, true]));
    const [, isBlock, kind, element] = new RegExp(`\\n +${name}: {\\n.*\\n +isBlock: (\\w+),\\n +type: "(\\w+)",\\n +storageClassType: "(\\w+)"`).exec(attributesOf) ?? [];
    if (!element) {
      attributes[name] = { type: readType(name, getter), ...flags };
    } else if (isBlock === 'false') {
      attributes[name] = { type: ctyType(name, kind, element), ...flags };
    } else {
      const of = element.replace(/List$/, '');
      const single = kind === 'struct';
      blocks[name] = {
        nesting_mode: single ? 'single' : kind,
        ...(required === 'true' ? { min_items: 1 } : {}),
        ...(single || source.includes(`class ${of}List extends`) ? {} : { max_items: 1 }),
        block: block(source, `${of}OutputReference`, functionOf(source, of)),
      };
    }
  }
  return { attributes, ...(Object.keys(blocks).length ? { block_types: blocks } : {}) };
}

function functionOf(source, name) {
  const start = source.indexOf(`function ${lower(name)}ToHclTerraform(`);
  return source.slice(start, source.indexOf('\n}\n', start));
}

/** Returns the schema of a resource, or of a data source with the prefix data. */
function schema(resource, prefix) {
  const [provider, ...rest] = resource.split('_');
  const file = prefix ? [prefix, provider, ...rest] : rest;
  const source = readFileSync(join(`provider-${provider}`, 'lib', file.join('-'), 'index.js'), 'utf8');
  const main = source.slice(source.indexOf('synthesizeHclAttributes() {'));
  const result = block(source, file.map(upper).join(''), main);
  if (Object.keys(result.attributes).length === 0) {
    throw new Error(`${resource}: no attributes`);
  }
  return { block: result };
}

const all = (names, prefix) => Object.fromEntries(names.map((name) => [name, schema(name, prefix)]));
const version = /provider version ([\d.]+)/.exec(readFileSync('provider-aws/README.md', 'utf8'))[1];
console.log(JSON.stringify({
  version,
  resource_schemas: all(resources),
  data_source_schemas: all(dataSources, 'data'),
}, null, 1).replace(/\{\n\s+("type": [^{}]*?)\n\s+\}/g, (_, fields) => `{ ${fields.replace(/\s*\n\s*/g, ' ')} }`));
