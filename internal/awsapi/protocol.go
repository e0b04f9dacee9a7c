package awsapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/restjson"
	awsxml "github.com/aws/aws-sdk-go-v2/aws/protocol/xml"
	"github.com/aws/smithy-go"
)

// NoCode is the code of an error response without a code, as in the SDK.
const NoCode = "UnknownError"

// protocol encodes requests and decodes responses.
type protocol struct {
	// encode returns the body of a request, and sets its headers.
	encode func(service Service, action string, parameters any, header http.Header) ([]byte, error)
	// decode decodes the response to a successful request.
	decode func(body []byte, result any) error
	// decodeError returns a smithy.APIError, or another error if the body is malformed.
	decodeError func(header http.Header, body []byte) error
}

// query is the AWS Query protocol.
// https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
var query = protocol{encodeQuery, xml.Unmarshal, queryError}

// json11 is the AWS JSON protocol 1.1.
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
var json11 = protocol{encodeJSON11, json.Unmarshal, json11Error}

func encodeQuery(service Service, action string, parameters any, header http.Header) ([]byte, error) {
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	form := url.Values{"Action": {action}, "Version": {service.api}}
	values, ok := parameters.(map[string]string)
	if !ok && parameters != nil {
		return nil, fmt.Errorf("parameters of type %T for the Query protocol", parameters)
	}
	for name, value := range values {
		form.Set(name, value)
	}
	return []byte(form.Encode()), nil
}

func queryError(_ http.Header, body []byte) error {
	response, err := awsxml.GetErrorResponseComponents(bytes.NewReader(body), false)
	if err != nil {
		return err
	}
	return apiError(response.Code, response.Message)
}

func encodeJSON11(service Service, action string, parameters any, header http.Header) ([]byte, error) {
	header.Set("Content-Type", "application/x-amz-json-1.1")
	header.Set("X-Amz-Target", service.api+"."+action)
	if parameters == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(parameters)
}

func json11Error(header http.Header, body []byte) error {
	code, message, err := restjson.GetErrorInfo(json.NewDecoder(bytes.NewReader(body)))
	if err != nil {
		return err
	}
	return apiError(cmp.Or(restjson.SanitizeErrorCode(header.Get("X-Amzn-Errortype")), code), message)
}

func apiError(code, message string) error {
	return &smithy.GenericAPIError{Code: cmp.Or(code, NoCode), Message: cmp.Or(message, NoCode)}
}
