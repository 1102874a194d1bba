// What the tests ask OHIF's page, by the objects that OHIF itself lays on `window`.
window.asked = {
  displaySets: () => window.services?.displaySetService?.getActiveDisplaySets() ?? [],

  viewport: () => [...window.services.viewportGridService.getState().viewports.values()][0],

  image() {
    return window.services.cornerstoneViewportService.getCornerstoneViewport(this.viewport().viewportId);
  },

  modalityInView() {
    const shown = this.viewport()?.displaySetInstanceUIDs?.[0];
    return this.displaySets().find(one => one.displaySetInstanceUID === shown)?.Modality;
  },

  // The series of the images under an object.
  seriesUnder(modality) {
    const object = this.displaySets().find(one => one.Modality === modality);
    const under = object?.referencedDisplaySetInstanceUID;
    return this.displaySets().find(one => one.displaySetInstanceUID === under)?.SeriesInstanceUID ?? '';
  },

  // Name and colour of each structure over the image in view.
  structures() {
    const { viewportId } = this.viewport();
    const { segmentationService } = window.services;
    const colour = window.cornerstoneTools.segmentation.config.color.getSegmentIndexColor;
    return segmentationService.getSegmentationRepresentations(viewportId).flatMap(({ segmentationId }) =>
      Object.values(segmentationService.getSegmentation(segmentationId).segments).map(one => [
        one.label,
        [...colour(viewportId, segmentationId, one.segmentIndex)].slice(0, 3),
      ])
    );
  },

  // Scrolls to a slice; false while the images in view have no such slice. frame is null for an image of one frame.
  async goTo([uid, frame]) {
    const viewport = this.image();
    if (!viewport) return false;
    const index = viewport
      .getImageIds()
      .findIndex(id => id.includes(`/instances/${uid}/`) && (frame === null || id.endsWith(`/frames/${frame}`)));
    if (index >= 0) await viewport.setImageIdIndex(index);
    return index >= 0;
  },

  // Whether the images in view have a slice.
  shows: uid => window.asked.image()?.getImageIds().some(id => id.includes(`/instances/${uid}/`)) ?? false,

  // LPS millimetres to pixels of the page.
  places(points) {
    const viewport = this.image();
    const box = viewport.canvas.getBoundingClientRect();
    return points.map(point => viewport.worldToCanvas(point)).map(([x, y]) => [x + box.left, y + box.top]);
  },
};
