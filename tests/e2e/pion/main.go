// A Pion server that echoes audio, behind the relay. Two kinds of server, by flag:
//
//	-mux 127.0.0.1:5000   every session on one UDP port (ICEUDPMux)
//	(without -mux)        Pion's default, a UDP port per session
//
// What the relay changes is in offer(): the client's candidates are taken out of the offer, and the answer goes
// through the relay's POST /v1/answers before the client sees it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/pion/webrtc/v3"
)

var candidateLines = regexp.MustCompile(`(?m)^a=(candidate:|end-of-candidates).*\r?\n?`)

type server struct {
	api     *webrtc.API
	relay   *http.Client
	backend string
}

func main() {
	listen := flag.String("http", "127.0.0.1:0", "address of POST /offer")
	admin := flag.String("relay-admin", "", "the relay's admin UNIX socket")
	backend := flag.String("backend", "pion", "id of this server in the relay's configuration")
	mux := flag.String("mux", "", "one UDP ip:port for all sessions; empty: a port per session")
	flag.Parse()

	api, err := newAPI(*mux)
	if err != nil {
		log.Fatalf("pion: %v", err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("pion: %v", err)
	}
	http.Handle("/offer", &server{api, overUnixSocket(*admin), *backend})
	fmt.Printf("pion: http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func newAPI(mux string) (*webrtc.API, error) {
	setting := webrtc.SettingEngine{}
	// The relay may stand on this machine: offer 127.0.0.1 too.
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if mux != "" {
		address, err := net.ResolveUDPAddr("udp4", mux)
		if err != nil {
			return nil, err
		}
		connection, err := net.ListenUDP("udp4", address)
		if err != nil {
			return nil, err
		}
		setting.SetICEUDPMux(webrtc.NewICEUDPMux(nil, connection))
	}
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(setting)), nil
}

func overUnixSocket(path string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

// ServeHTTP takes an SDP offer and returns the SDP answer, with the relay's candidates.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.offer(candidateLines.ReplaceAllString(string(body), ""))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	fmt.Fprint(w, answer)
}

func (s *server) offer(sdp string) (string, error) {
	call, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	answer, err := s.answer(call, sdp)
	if err == nil {
		answer, err = s.throughRelay(answer)
	}
	if err != nil {
		_ = call.Close()
	}
	return answer, err
}

func (s *server) answer(call *webrtc.PeerConnection, sdp string) (string, error) {
	codec := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	back, err := webrtc.NewTrackLocalStaticRTP(codec, "audio", "echo")
	if err != nil {
		return "", err
	}
	if _, err = call.AddTrack(back); err != nil {
		return "", err
	}
	call.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { echo(track, back) })
	call.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		log.Printf("call is %s", state)
		if state == webrtc.PeerConnectionStateFailed {
			_ = call.Close()
		}
	})
	if err = call.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return "", err
	}
	answer, err := call.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(call)
	if err = call.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return call.LocalDescription().SDP, nil
}

func echo(track *webrtc.TrackRemote, back *webrtc.TrackLocalStaticRTP) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil || back.WriteRTP(packet) != nil {
			return
		}
	}
}

func (s *server) throughRelay(answer string) (string, error) {
	target := "http://relay/v1/answers?backend=" + url.QueryEscape(s.backend)
	reply, err := s.relay.Post(target, "application/sdp", strings.NewReader(answer))
	if err != nil {
		return "", fmt.Errorf("the relay does not answer: %w", err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode/100 != 2 {
		err = fmt.Errorf("the relay refused the answer (%s): %s", reply.Status, text)
	}
	return string(text), err
}
