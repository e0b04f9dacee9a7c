//go:build unix

package aurora

import ber "github.com/go-asn1-ber/asn1-ber"

// Application tags of the operations, RFC 4511 section 4.2 and following.
const (
	opBindRequest      ber.Tag = 0
	opBindResponse     ber.Tag = 1
	opUnbindRequest    ber.Tag = 2
	opExtendedResponse ber.Tag = 24
)

// Result codes, RFC 4511 section 4.1.9.
const (
	resultSuccess                int64 = 0
	resultProtocolError          int64 = 2
	resultAuthMethodNotSupported int64 = 7
	resultInvalidCredentials     int64 = 49
	resultUnwillingToPerform     int64 = 53
)

// noticeOfDisconnection is the name of RFC 4511 section 4.4.1.
const noticeOfDisconnection = "1.3.6.1.4.1.1466.20036"

// bindRequest is a BindRequest; password counts only if simple is set.
type bindRequest struct {
	version  int64
	name     string
	simple   bool
	password string
}

// openMessage decodes an LDAPMessage (section 4.1.1). Controls are ignored.
func openMessage(p *ber.Packet) (id int64, operation *ber.Packet, ok bool) {
	if p == nil || !isUniversal(p, ber.TagSequence) || len(p.Children) < 2 {
		return 0, nil, false
	}
	id, ok = p.Children[0].Value.(int64)
	if !ok || !isUniversal(p.Children[0], ber.TagInteger) || id < 0 || id > 1<<31-1 {
		return 0, nil, false
	}
	return id, p.Children[1], true
}

// readBind reads a BindRequest (section 4.2).
func readBind(p *ber.Packet) (bindRequest, bool) {
	if p.ClassType != ber.ClassApplication || p.Tag != opBindRequest || len(p.Children) != 3 {
		return bindRequest{}, false
	}
	version, name, password := p.Children[0], p.Children[1], p.Children[2]
	if !isUniversal(version, ber.TagInteger) || !isUniversal(name, ber.TagOctetString) ||
		password.ClassType != ber.ClassContext {
		return bindRequest{}, false
	}
	r := bindRequest{
		name:     string(name.ByteValue),
		simple:   password.Tag == 0 && password.TagType == ber.TypePrimitive,
		password: password.Data.String(),
	}
	var ok bool
	r.version, ok = version.Value.(int64)
	return r, ok
}

func isUniversal(p *ber.Packet, tag ber.Tag) bool {
	return p.ClassType == ber.ClassUniversal && p.Tag == tag
}

// bindResponse encodes the answer to a bind (section 4.2.2).
func bindResponse(id, code int64) []byte {
	return encodeMessage(id, opBindResponse, code)
}

// disconnection encodes the notice (section 4.4.1) that must precede the end of a
// connection on which an invalid message arrived (section 4.1.1).
func disconnection() []byte {
	return encodeMessage(0, opExtendedResponse, resultProtocolError,
		ber.NewString(ber.ClassContext, ber.TypePrimitive, 10, noticeOfDisconnection, "responseName"))
}

// encodeMessage encodes an operation that consists of an LDAPResult and more. The library
// encodes a child when it is appended: inner ones come first.
func encodeMessage(id int64, operation ber.Tag, code int64, more ...*ber.Packet) []byte {
	result := ber.Encode(ber.ClassApplication, ber.TypeConstructed, operation, nil, "protocolOp")
	result.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, "resultCode"))
	result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", "matchedDN"))
	result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", "diagnosticMessage"))
	for _, p := range more {
		result.AppendChild(p)
	}
	message := ber.NewSequence("LDAPMessage")
	message.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, "messageID"))
	message.AppendChild(result)
	return message.Bytes()
}
