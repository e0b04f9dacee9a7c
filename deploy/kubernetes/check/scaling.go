package check

import (
	"fmt"
	"strconv"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// loginLimit is about the number of IAM logins per second that AWS accepts.
const loginLimit = 200

// scales checks that an autoscaler alone sets the number of replicas of a Deployment.
func scales(scaler *autoscaling.HorizontalPodAutoscaler, objects []runtime.Object) error {
	deployment := named[*apps.Deployment](objects, scaler.Spec.ScaleTargetRef.Name)
	switch {
	case deployment == nil:
		return fmt.Errorf("HorizontalPodAutoscaler %s: no Deployment %s", scaler.Name, scaler.Spec.ScaleTargetRef.Name)
	case deployment.Spec.Replicas != nil:
		return fmt.Errorf("HorizontalPodAutoscaler %s: the Deployment sets replicas, too", scaler.Name)
	case scaler.Spec.MinReplicas == nil || *scaler.Spec.MinReplicas < 2:
		return fmt.Errorf("HorizontalPodAutoscaler %s: a single replica cannot be replaced without a gap", scaler.Name)
	}
	return nil
}

// staysBelowLimit checks that all replicas of a shared proxy together begin at most loginLimit
// logins per second, with those that a roll-out adds.
func staysBelowLimit(object runtime.Object, objects []runtime.Object) error {
	deployment, ok := object.(*apps.Deployment)
	if !ok {
		return nil
	}
	containers := deployment.Spec.Template.Spec.Containers
	if len(containers) != 1 || !serves(containers[0]) { // sidecars have an application each
		return nil
	}
	env, err := environment(containers[0], objects)
	if err != nil {
		return err
	}
	rate, err := strconv.Atoi(env["IAMPROXY_CONNECT_RATE"])
	if err != nil {
		return fmt.Errorf("rate of logins of Deployment %s: %w", deployment.Name, err)
	}
	replicas := maxReplicas(deployment, objects)
	update := deployment.Spec.Strategy.RollingUpdate
	if update == nil || update.MaxSurge == nil {
		return fmt.Errorf("maxSurge of Deployment %s is not set", deployment.Name)
	}
	surge, err := intstr.GetScaledValueFromIntOrPercent(update.MaxSurge, replicas, true)
	if err != nil {
		return err
	}
	if pods := replicas + surge; rate*pods > loginLimit {
		return fmt.Errorf("%d pods of Deployment %s begin %d logins per second", pods, deployment.Name, rate*pods)
	}
	return nil
}

// maxReplicas returns the largest number of replicas outside of a roll-out.
func maxReplicas(deployment *apps.Deployment, objects []runtime.Object) int {
	for _, object := range objects {
		if scaler, ok := object.(*autoscaling.HorizontalPodAutoscaler); ok && scaler.Spec.ScaleTargetRef.Name == deployment.Name {
			return int(scaler.Spec.MaxReplicas)
		}
	}
	if deployment.Spec.Replicas == nil {
		return 1
	}
	return int(*deployment.Spec.Replicas)
}
