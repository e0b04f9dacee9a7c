package auth

import "os"

// platforms lists environment variables that platforms set, the most specific first, and how a
// process there gets credentials.
var platforms = []struct{ variable, advice string }{
	{"AWS_LAMBDA_RUNTIME_API", "Check the execution role of the function."},
	{"ECS_CONTAINER_METADATA_URI_V4", "Set a task role (taskRoleArn) in the task definition. The execution role is not passed to containers."},
	{"KUBERNETES_SERVICE_HOST", "Give the service account of the pod an IAM role, with EKS Pod Identity or IRSA. Then replace the pod."},
	{"CI", "Let the job assume an IAM role by OpenID Connect before this step, or export AWS credentials to it."},
}

// PlatformAdvice returns how to get credentials on the platform of this process, or "" if a
// login at a terminal is possible.
func PlatformAdvice() string {
	for _, platform := range platforms {
		if os.Getenv(platform.variable) != "" {
			return platform.advice
		}
	}
	return ""
}
