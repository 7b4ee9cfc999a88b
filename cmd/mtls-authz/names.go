package main

import (
	"github.com/mtls-authz/mtls-authz/directory"
	"github.com/mtls-authz/mtls-authz/directory/controller"
)

// buildDirectory makes what looks names up, if it has a client of UAA to look
// with. Nothing waits for it.
func (g *server) buildDirectory() error {
	if g.CFClientID == "" {
		return nil
	}
	roots, err := g.extraRoots()
	if err != nil {
		return err
	}
	session := controller.New(controller.Config{URL: g.CFAPIURL, Roots: roots}).Session(g.CFClientID, g.CFClientSecret)
	g.directory = directory.New(directory.Config{
		Lister: session, Resolutions: g.store.Names(), References: g.store.View().References,
		Grace: g.NameGrace, Interval: g.NameInterval, Log: g.log,
	})
	g.background = append(g.background, g.directory.Run)
	return nil
}
