import { App } from 'aws-cdk-lib';
import { Example } from './stack';

const app = new App();
const iamproxyTag = app.node.tryGetContext('iamproxyTag');
if (typeof iamproxyTag !== 'string') {
  throw new Error('say which image it is: -c iamproxyTag=VERSION');
}
new Example(app, 'IamproxyExample', { iamproxyTag });
