import { App } from 'aws-cdk-lib';
import { Example } from './stack';

const app = new App();
const iamproxyImage = app.node.tryGetContext('iamproxyImage');
if (typeof iamproxyImage !== 'string') {
  throw new Error('say where the image is: -c iamproxyImage=111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:latest');
}
new Example(app, 'IamproxyExample', { iamproxyImage });
