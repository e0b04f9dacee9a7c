import { App } from 'aws-cdk-lib';
import { Example } from './stack';

const app = new App();
const iamproxyTag = app.node.tryGetContext('iamproxyTag');
if (typeof iamproxyTag !== 'string') {
  throw new Error('give the tag of the image: -c iamproxyTag=v1.2.3');
}
new Example(app, 'IamproxyExample', { iamproxyTag });
